package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
)

// ZooKeeperPods runs pods of StatefulSets as ZooKeeper servers; its Start is for
// StartRunner. Each StatefulSet is one ensemble. Pod NAME-0 is server 1, NAME-1
// server 2, and so on: a server has its address and its data by the pod's name,
// wherever that is bound, as with volumes that move along.
type ZooKeeperPods struct {
	config ZooKeeperConfig
	dir    string
	only   func(*corev1.Pod) bool

	mu   sync.Mutex               // guards below
	sets map[string]*zooKeeperSet // by namespace/name
}

type zooKeeperSet struct {
	subnet  *Subnet
	servers map[int]*Server
}

// NewZooKeeperPods makes ensembles of config.Voters voters (default 3) and
// config.Observers observers. Pods for which only is false merely look alive; nil:
// all are servers.
func NewZooKeeperPods(config ZooKeeperConfig, only func(*corev1.Pod) bool) (*ZooKeeperPods, error) {
	dir, err := os.MkdirTemp("", "quorate-pods-")
	if err != nil {
		return nil, fmt.Errorf("make a folder for ZooKeeper pods: %w", err)
	}
	if config.Voters == 0 {
		config.Voters = 3
	}
	return &ZooKeeperPods{config: config, dir: dir, only: only, sets: map[string]*zooKeeperSet{}}, nil
}

// Start is a Start.
func (z *ZooKeeperPods) Start(ctx context.Context, pod *corev1.Pod) (Workload, string, error) {
	if z.only != nil && !z.only(pod) {
		return LooksAlive(ctx, pod)
	}
	server, err := z.Server(pod.Namespace, pod.Name)
	if err != nil {
		return nil, "", err
	}
	if err := server.Start(ctx); err != nil {
		return nil, "", err
	}
	return zooKeeperPod{server, server.process.Done()}, server.member.Host, nil
}

// Server is that of a pod, whether it runs or not.
func (z *ZooKeeperPods) Server(namespace, pod string) (*Server, error) {
	dash := strings.LastIndexByte(pod, '-')
	ordinal, err := strconv.Atoi(pod[dash+1:])
	if dash < 0 || err != nil {
		return nil, fmt.Errorf("run pod %s as ZooKeeper: its name has no ordinal", pod)
	}
	z.mu.Lock()
	defer z.mu.Unlock()
	name := namespace + "/" + pod[:dash]
	set := z.sets[name]
	if set == nil {
		if set, err = z.newSet(namespace, pod[:dash]); err != nil {
			return nil, err
		}
		z.sets[name] = set
	}
	server := set.servers[ordinal+1]
	if server == nil {
		return nil, fmt.Errorf("run pod %s as ZooKeeper: its ensemble has %d servers", pod, len(set.servers))
	}
	return server, nil
}

func (z *ZooKeeperPods) newSet(namespace, name string) (*zooKeeperSet, error) {
	subnet, err := ClaimSubnet()
	if err != nil {
		return nil, err
	}
	config := z.config
	config.Dir = filepath.Join(z.dir, namespace, name)
	config.Members = nil
	for id := 1; id <= config.Voters+config.Observers; id++ {
		config.Members = append(config.Members, ZooKeeperMember{ID: id, Host: subnet.Addr(id), Observer: id > config.Voters})
	}
	set := &zooKeeperSet{subnet: subnet, servers: map[int]*Server{}}
	for _, m := range config.Members {
		server, err := NewZooKeeperServer(config, m.ID)
		if err != nil {
			return nil, errors.Join(err, subnet.Close())
		}
		set.servers[m.ID] = server
	}
	return set, nil
}

// Close kills what still runs and removes the data. Close the runner first.
func (z *ZooKeeperPods) Close() error {
	z.mu.Lock()
	defer z.mu.Unlock()
	var errs []error
	for name, set := range z.sets {
		for _, server := range set.servers {
			errs = append(errs, server.Close())
		}
		errs = append(errs, set.subnet.Close())
		delete(z.sets, name)
	}
	return errors.Join(append(errs, os.RemoveAll(z.dir))...)
}

// zooKeeperPod is one life of a server.
type zooKeeperPod struct {
	server *Server
	done   <-chan struct{}
}

// Ready is whether it leads, follows or observes.
func (p zooKeeperPod) Ready(ctx context.Context) error {
	_, err := p.server.Mode(ctx)
	return err
}

func (p zooKeeperPod) Stop(ctx context.Context) error { return p.server.Stop(ctx) }

func (p zooKeeperPod) Done() <-chan struct{} { return p.done }
