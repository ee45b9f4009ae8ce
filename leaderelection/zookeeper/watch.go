package zookeeper

import (
	"sync"
)

// watches hands one-time watches out. go-zookeeper cannot take a watch back and
// keeps a channel for each, so that a path is only armed when it is not armed
// already; and it arms them again behind the requests that wait, so that on every
// new connection all of them count as fired, and it is made to forget its own.
type watches struct {
	mu    sync.Mutex // guards below
	armed map[string]*watch
}

type watch struct {
	fired chan struct{}
	armed bool // the server is known to have it
}

// of returns the path's watch, and whether the server is still to be asked for it.
func (s *watches) of(path string) (w *watch, arm bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w = s.armed[path]
	if w == nil {
		w = &watch{fired: make(chan struct{})}
		if s.armed == nil {
			s.armed = map[string]*watch{}
		}
		s.armed[path] = w
	}
	return w, !w.armed
}

func (s *watches) arm(w *watch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w.armed = true
}

func (s *watches) fire(path string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if w := s.armed[path]; w != nil {
		close(w.fired)
		delete(s.armed, path)
	}
}

// fireAll of them. It returns the paths that go-zookeeper has a channel for.
func (s *watches) fireAll() (armed []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for path, w := range s.armed {
		close(w.fired)
		if w.armed {
			armed = append(armed, path)
		}
	}
	clear(s.armed)
	return armed
}
