package leaderelection

import (
	"context"
	"errors"
	"fmt"
	"path"

	"github.com/google/uuid"

	"github.com/quorate/quorate/leaderelection/zookeeper"
)

// Ensemble is the identity of the ensemble that the session is with: it is made once,
// kept in a node below the root, and the same for every session by whatever address.
// A chroot or root of its own is an ensemble of its own. Whoever copies an ensemble's
// data copies the identity, too.
func (s *Session) Ensemble(ctx context.Context) (string, error) {
	li, _, err := s.current()
	if err != nil {
		return "", err
	}
	node := path.Join(s.cfg.Root, "ensemble")
	for {
		data, _, err := li.Get(ctx, node)
		if err == nil && len(data) > 0 {
			return string(data), nil
		}
		if err == nil {
			return "", fmt.Errorf("identify the ensemble: %s is empty", node)
		}
		if !errors.Is(err, zookeeper.ErrNoNode) {
			return "", fmt.Errorf("identify the ensemble: %w", err)
		}
		_, err = li.Multi(ctx, &zookeeper.Create{Path: node, Data: []byte(uuid.NewString())})
		if err != nil && !errors.Is(err, zookeeper.ErrNodeExists) {
			return "", fmt.Errorf("identify the ensemble: %w", err)
		}
	}
}
