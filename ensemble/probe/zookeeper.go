package probe

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// ZooKeeper asks ZooKeeper servers.
//
// The best source that answers is believed: the AdminServer, else mntr. srvr, which
// every server answers, is asked beside them, for the zxid; alone it tells no id, no
// peer state and no count, and a leader is believed by it only where nothing else is
// ever told: mntr is not listed, and the AdminServer switched off. A leader is also asked
// for /zookeeper/config, in a session, which it cannot grant alone: one that does not is
// not believed to lead. Sources that contradict each other make the server unseen, as does
// anything slow, huge or garbled in all of them.
type ZooKeeper struct {
	// ClientPort answers four letter words and clients.
	ClientPort int32
	// AdminPort is the AdminServer's; 0 where it is switched off.
	AdminPort int32
	// AdminTLS is whether the AdminServer speaks TLS.
	AdminTLS bool
	// TLS makes the client port be asked over TLS; nil: in plain.
	TLS *tls.Config
	// Auth is who reads /zookeeper/config; nil: nobody in particular.
	Auth *Digest
	// SkipConfig leaves /zookeeper/config unread: where it was read a moment ago, since
	// each reading is a session, and so two writes to the ensemble.
	SkipConfig bool
}

var _ Prober = (*ZooKeeper)(nil)

// Probe implements Prober.
func (z *ZooKeeper) Probe(ctx context.Context, t Target) Answer {
	a := Answer{Target: t, At: time.Now()}
	if !t.IP.IsValid() {
		a.Reason = "its pod has no address yet"
		return a
	}
	best, srvr, bestErr, srvrErr := z.sources(ctx, t)
	a.Took = time.Since(a.At)
	if bestErr != nil && srvrErr != nil {
		a.Reason = unheard(bestErr, srvrErr)
		return a
	}
	merge(&a, best, srvr, bestErr, srvrErr == nil)
	if a.Heard && a.Serving && a.Role == Leader && a.State != "standalone" && !z.SkipConfig {
		z.config(ctx, t, &a, srvrErr == nil || best.source == "mntr" || errors.Is(srvrErr, errNotListed))
		a.Took = time.Since(a.At)
	}
	return a
}

// sources asks srvr and the best other source at once.
func (z *ZooKeeper) sources(ctx context.Context, t Target) (best admin, srvr said, bestErr, srvrErr error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		var text string
		if text, srvrErr = word(ctx, z.clientDialer(t), "srvr"); srvrErr == nil {
			srvr, srvrErr = parseSrvr(text)
		}
	}()
	best, bestErr = z.best(ctx, t, func() bool { <-done; return srvrErr != nil })
	<-done
	return best, srvr, bestErr, srvrErr
}

func (z *ZooKeeper) best(ctx context.Context, t Target, needZxid func() bool) (admin, error) {
	var adminErr error
	if z.AdminPort > 0 {
		half, cancel := halfOf(ctx)
		a, err := askAdmin(half, z.adminDialer(t), needZxid)
		cancel()
		if adminErr = err; err == nil {
			if !a.waits && a.settle == 0 {
				a.started(ctx, z.clientDialer(t))
			}
			return a, nil
		}
	}
	a, err := words(ctx, z.clientDialer(t))
	if errors.Is(err, errNotListed) && adminErr != nil && !errors.Is(adminErr, syscall.ECONNREFUSED) {
		err = adminErr // it is there
	}
	return a, err
}

// words asks mntr, and conf where that is listed too.
func words(ctx context.Context, dial dialer) (admin, error) {
	text, err := word(ctx, dial, "mntr")
	if err != nil {
		return admin{}, err
	}
	s, err := parseMntr(text)
	if err != nil || s.waits {
		return admin{said: s}, err
	}
	a := admin{said: s}
	a.started(ctx, dial)
	return a, nil
}

// started adds what conf tells, where that word is listed.
func (a *admin) started(ctx context.Context, dial dialer) {
	text, err := word(ctx, dial, "conf")
	if err != nil {
		return
	}
	r := parseConf(text)
	a.settle = r.settle
	if r.config != nil {
		a.view = r.config
	}
	if a.id == "" && a.mode != "standalone" {
		a.id = r.id
	}
}

// halfOf ctx is for a source after which another one is asked.
func halfOf(ctx context.Context) (context.Context, context.CancelFunc) {
	if deadline, ok := ctx.Deadline(); ok {
		return context.WithTimeout(ctx, time.Until(deadline)/2)
	}
	return context.WithCancel(ctx)
}

// config asks for the configuration. spoke is whether the clients' port speaks as a
// ZooKeeper server's: else that it grants no session means nothing.
func (z *ZooKeeper) config(ctx context.Context, t Target, a *Answer, spoke bool) {
	c, err := readConfig(ctx, z.clientDialer(t), z.Auth)
	switch {
	case err == nil:
		a.Config = c
	case spoke && errors.Is(err, errNoSession):
		a.Alone, a.Reason = true, "it grants no session: "+failure(err)
	case a.Config == nil:
		a.Reason = "its configuration was not read: " + failure(err)
	}
}

func (z *ZooKeeper) clientDialer(t Target) dialer { return dialTo(t, z.ClientPort, z.TLS) }

func (z *ZooKeeper) adminDialer(t Target) dialer {
	if z.AdminTLS {
		return dialTo(t, z.AdminPort, or(z.TLS, &tls.Config{MinVersion: tls.VersionTLS12}))
	}
	return dialTo(t, z.AdminPort, nil)
}

// dialTo dials the pod's own address and nothing else.
func dialTo(t Target, port int32, config *tls.Config) dialer {
	address := net.JoinHostPort(t.IP.String(), strconv.Itoa(int(port)))
	return func(ctx context.Context) (net.Conn, error) {
		if config == nil {
			return (&net.Dialer{}).DialContext(ctx, "tcp", address)
		}
		own := config.Clone()
		own.ServerName = or(own.ServerName, t.IP.String())
		return (&tls.Dialer{Config: own}).DialContext(ctx, "tcp", address)
	}
}

// merge makes one answer of what two sources said.
func merge(a *Answer, best admin, srvr said, bestErr error, haveSrvr bool) {
	s, haveBest := best.said, bestErr == nil
	switch {
	case haveSrvr && srvr.waits:
		s = said{source: srvr.source, waits: true}
	case haveBest && haveSrvr && (s.waits || s.mode != srvr.mode):
		a.Reason = fmt.Sprintf("%s and srvr contradict each other: it is changing its role", s.source)
		return
	case !haveBest && srvr.mode == "leader" && !errors.Is(bestErr, errNotListed):
		a.Reason = "it says that it leads, but not whom it counts: " + failure(bestErr)
		return
	case !haveBest:
		s = srvr
	case !s.zxided && haveSrvr:
		s.zxid, s.zxided = srvr.zxid, srvr.zxided
	}
	a.Heard, a.Source = true, s.source
	if s.waits {
		a.Reason = "it says that it is not serving"
		return
	}
	a.ServerID, a.State, a.LeaderID = s.id, s.state, s.leaderID
	a.Count, a.Config, a.Settle = s.count, best.view, best.settle
	if s.zxided {
		a.Epoch, a.Position = s.zxid>>32, s.zxid&(1<<32-1)
	}
	a.role(s)
}

// role of the server, and whether it serves: a server that tells its peer state must
// be in broadcast; older ones answer only while they are.
func (a *Answer) role(s said) {
	a.Serving = s.state == "" || strings.Contains(s.state, "broadcast")
	switch s.mode {
	case "leader":
		a.Role = Leader
	case "follower":
		a.Role = Follower
	case "observer":
		a.Role = Observer
	case "standalone":
		a.Role, a.Serving = Leader, true
	default:
		a.Serving, a.State = false, s.mode
	}
	if a.State == "" {
		a.State = s.mode
	}
}

// unheard is why nothing was heard: what the better source met, and the other one if
// that differs.
func unheard(best, srvr error) string {
	if errors.Is(best, errNotListed) || failure(best) == failure(srvr) {
		return failure(srvr)
	}
	return failure(srvr) + "; " + failure(best)
}

// failure in words that stay the same from one time to the next.
func failure(err error) string {
	var dns net.Error
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &dns) && dns.Timeout():
		return "no answer in time"
	case errors.Is(err, context.Canceled):
		return "the question was given up"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused"
	case errors.Is(err, errTooLong), errors.Is(err, errGarbage):
		return "its answer makes no sense"
	case errors.Is(err, errNotListed):
		return errNotListed.Error()
	}
	return "it broke off"
}
