package leaderelection

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"time"

	"github.com/quorate/quorate/leaderelection/zookeeper"
)

// Election is what the store knows of one election.
type Election struct {
	// Namespace of the election.
	Namespace string
	// Name of the election.
	Name string
	// Holder is the identity of the leader, empty while nobody leads.
	Holder string
	// Since when it leads, by the clock of ZooKeeper's leader.
	Since time.Time
	// Token of its term.
	Token int64
	// Transitions so far.
	Transitions int
	// Standbys in the order in which they would lead.
	Standbys []string
}

// Elections in a namespace, or in all of them if it is empty, ordered by namespace
// and name.
func (s *Session) Elections(ctx context.Context, namespace string) ([]Election, error) {
	li, _, err := s.current()
	if err != nil {
		return nil, err
	}
	namespaces := []string{namespace}
	if namespace == "" {
		if namespaces, err = s.children(ctx, li, electionsOf(s.cfg.Root)); err != nil {
			return nil, err
		}
	}
	var out []Election
	for _, ns := range namespaces {
		names, err := s.children(ctx, li, path.Join(electionsOf(s.cfg.Root), ns))
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			e, err := s.Election(ctx, ns, name)
			if errors.Is(err, zookeeper.ErrNoNode) {
				continue
			}
			if err != nil {
				return nil, err
			}
			out = append(out, e)
		}
	}
	return out, nil
}

// children in order; none of a node that is not there.
func (s *Session) children(ctx context.Context, li *life, dir string) ([]string, error) {
	names, err := li.Children(ctx, dir)
	if errors.Is(err, zookeeper.ErrNoNode) {
		return nil, nil
	}
	slices.Sort(names)
	return names, err
}

// Election of one name. The error is zookeeper.ErrNoNode where there is none.
func (s *Session) Election(ctx context.Context, namespace, name string) (Election, error) {
	li, _, err := s.current()
	if err != nil {
		return Election{}, err
	}
	at := layoutOf(s.cfg.Root, namespace, name)
	e := Election{Namespace: namespace, Name: name}
	data, _, err := li.Get(ctx, at.record)
	if err != nil {
		return Election{}, err
	}
	if record, err := decodeRecord(data); err == nil {
		e.Transitions = record.LeaderTransitions
	}
	data, owner, err := li.Get(ctx, at.owner())
	switch {
	case errors.Is(err, zookeeper.ErrNoNode):
	case err != nil:
		return Election{}, err
	default:
		e.Token, e.Since = owner.Czxid, time.UnixMilli(owner.Ctime)
		e.Holder = holderOf(data, owner)
	}
	e.Standbys, err = standbys(ctx, li, at)
	return e, err
}

func holderOf(data []byte, owner zookeeper.Stat) string {
	var said ownerData
	if err := json.Unmarshal(data, &said); err == nil && said.Holder != "" {
		return said.Holder
	}
	return fmt.Sprintf("unknown (session %#x)", owner.EphemeralOwner)
}

func standbys(ctx context.Context, li *life, at layout) ([]string, error) {
	children, err := li.Children(ctx, at.record)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, node := range queueOrder(children) {
		data, _, err := li.Get(ctx, at.child(node))
		if errors.Is(err, zookeeper.ErrNoNode) {
			continue
		}
		if err != nil {
			return nil, err
		}
		out = append(out, string(data))
	}
	return out, nil
}

// Resign asks the leader to stop and release, and returns when it has, or when ctx
// ends: the request is taken back then. It needs the permission to create nodes
// below the election. The error is ErrNotHolder if nobody leads.
func (s *Session) Resign(ctx context.Context, namespace, name string) error {
	li, _, err := s.current()
	if err != nil {
		return err
	}
	at := layoutOf(s.cfg.Root, namespace, name)
	owner, exists, changed, err := li.Watch(ctx, at.owner())
	if err == nil && !exists {
		err = fmt.Errorf("%w: nobody leads", ErrNotHolder)
	}
	if err != nil {
		return fmt.Errorf("resign %s/%s: %w", namespace, name, err)
	}
	err = askToResign(ctx, li, at, owner.Czxid)
	if err == nil || retriable(err) {
		defer s.takeBack(li, at)
	}
	if err != nil {
		return fmt.Errorf("resign %s/%s: %w", namespace, name, err)
	}
	for exists && err == nil {
		select {
		case <-changed:
		case <-li.Ended():
			return fmt.Errorf("resign %s/%s: %w", namespace, name, ErrSessionEnded)
		case <-ctx.Done():
			return fmt.Errorf("resign %s/%s: %w", namespace, name, context.Cause(ctx))
		}
		var now zookeeper.Stat
		now, exists, changed, err = li.Watch(ctx, at.owner())
		exists = exists && now.Czxid == owner.Czxid
		if err != nil && retriable(err) && pause(ctx, li) {
			exists, err, changed = true, nil, closed
		}
	}
	return err
}

// askToResign by a request, which is made again while it is not known whether it is there.
// One for the same term that is found then is taken for it.
func askToResign(ctx context.Context, li *life, at layout, token int64) error {
	request := &zookeeper.Create{Path: at.resign(), Data: []byte(strconv.FormatInt(token, 10)), Ephemeral: true}
	for unsure := false; ; unsure = true {
		_, err := li.Multi(ctx, request)
		if unsure && errors.Is(err, zookeeper.ErrNodeExists) {
			data, _, readErr := li.Get(ctx, request.Path)
			if errors.Is(readErr, zookeeper.ErrNoNode) {
				continue // another's was taken back since
			}
			if readErr == nil && !bytes.Equal(data, request.Data) {
				return err
			}
			err = readErr
		}
		if !retriable(err) || !pause(ctx, li) {
			return err
		}
	}
}

// takeBack a request to resign, if its session can.
func (s *Session) takeBack(li *life, at layout) {
	ctx, cancel := context.WithTimeout(li.ctx, li.Timeout())
	defer cancel()
	if err := deleteNode(ctx, li, at.resign()); err != nil {
		s.log.V(2).Info("Request to resign ends with the session only", "node", at.resign(), "err", err)
	}
}
