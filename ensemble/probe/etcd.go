package probe

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
)

// Etcd asks etcd members for their status and for the membership. The membership is
// read through a quorum: a member that answers it had contact with its leader, and
// the leader with a quorum, after the question was asked.
type Etcd struct {
	// ClientPort answers the maintenance and cluster APIs.
	ClientPort int32
	// TLS makes it be asked over TLS; nil: in plain.
	TLS *tls.Config
}

var _ Prober = (*Etcd)(nil)

// Probe implements Prober.
func (e *Etcd) Probe(ctx context.Context, t Target) Answer {
	a := Answer{Target: t, At: time.Now(), Source: "etcd"}
	if !t.IP.IsValid() {
		a.Reason = "its pod has no address yet"
		return a
	}
	endpoint, client, err := e.client(ctx, t)
	if err != nil {
		a.Reason = failure(err)
		return a
	}
	defer client.Close()
	status, err := client.Status(ctx, endpoint)
	a.Took = time.Since(a.At)
	if err != nil || status.Header == nil {
		a.Reason = failure(or(err, errGarbage))
		if ctx.Err() != nil {
			a.Reason = failure(ctx.Err())
		}
		return a
	}
	a.status(status)
	a.membership(ctx, client)
	a.Took = time.Since(a.At)
	return a
}

// client of one member; it connects at the first call.
func (e *Etcd) client(ctx context.Context, t Target) (string, *clientv3.Client, error) {
	scheme, config := "http", e.TLS
	if config != nil {
		scheme, config = "https", config.Clone()
		config.ServerName = or(config.ServerName, t.IP.String())
	}
	endpoint := scheme + "://" + net.JoinHostPort(t.IP.String(), strconv.Itoa(int(e.ClientPort)))
	client, err := clientv3.New(clientv3.Config{
		Context:            ctx,
		Endpoints:          []string{endpoint},
		TLS:                config,
		MaxCallRecvMsgSize: maxAnswer,
		Logger:             zap.NewNop(),
		DialOptions:        []grpc.DialOption{grpc.WithNoProxy()},
	})
	return endpoint, client, err
}

// status fills in what the member says of itself.
func (a *Answer) status(s *clientv3.StatusResponse) {
	a.Heard = true
	a.ServerID = etcdID(s.Header.MemberId)
	a.Epoch, a.Position = s.RaftTerm, s.RaftIndex
	switch {
	case s.Leader == 0:
		a.State = "no leader"
		return
	case s.Leader == s.Header.MemberId:
		a.Role = Leader
	case s.IsLearner:
		a.Role = Learner
	default:
		a.Role = Follower
	}
	a.LeaderID = etcdID(s.Leader)
	a.State = string(a.Role)
}

// membership reads the members and the alarms. A learner answers neither: it is
// taken at its word.
func (a *Answer) membership(ctx context.Context, client *clientv3.Client) {
	if a.Role == "" || a.Role == Learner {
		a.Serving = a.Role == Learner
		return
	}
	list, err := client.MemberList(ctx)
	if err != nil {
		a.Reason = "it has a leader, but reads nothing through a quorum"
		return
	}
	a.Serving, a.Config = true, etcdConfig(list.Members)
	alarms, err := client.AlarmList(ctx)
	if err != nil {
		a.Serving, a.Reason = false, "it does not tell its alarms"
		return
	}
	for _, alarm := range alarms.Alarms {
		if etcdID(alarm.MemberID) == a.ServerID {
			a.Alarms = append(a.Alarms, alarm.Alarm.String())
		}
	}
}

// etcdConfig is the membership as a configuration. etcd numbers none of them: they
// are compared by content.
func etcdConfig(members []*pb.Member) *Config {
	c := &Config{}
	for _, m := range members {
		c.Members = append(c.Members, ConfigMember{
			ServerID: etcdID(m.ID),
			Host:     etcdHost(m),
			Votes:    !m.IsLearner,
			Weight:   1,
		})
	}
	return c
}

// etcdHost is where its peers reach it, else its name.
func etcdHost(m *pb.Member) string {
	for _, raw := range m.PeerURLs {
		if u, err := url.Parse(raw); err == nil && u.Hostname() != "" {
			return u.Hostname()
		}
	}
	return m.Name
}

func etcdID(id uint64) string { return fmt.Sprintf("%x", id) }
