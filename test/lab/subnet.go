package lab

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"syscall"
)

// lockPort is where the claim of a subnet is held, on its last address.
const lockPort = 25400

// Subnet is a /24 of loopback that is ours alone, so that members can listen on
// their well-known ports and several labs can run side by side.
type Subnet struct {
	second, third int
	lock          net.Listener
}

// ClaimSubnet takes a subnet that no other lab of this machine holds. The claim is
// a listening socket: it ends with Close or with the process.
func ClaimSubnet() (*Subnet, error) {
	for range 200 {
		// 127.0 is left to people, 127.53 to resolvers.
		s, err := claim(64+rand.IntN(128), rand.IntN(256))
		if errors.Is(err, syscall.EADDRINUSE) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("claim loopback subnet: %w", err)
		}
		return s, nil
	}
	return nil, errors.New("claim loopback subnet: 200 tries met only subnets that other labs hold")
}

func claim(second, third int) (*Subnet, error) {
	s := &Subnet{second: second, third: third}
	lock, err := net.Listen("tcp4", fmt.Sprintf("%s:%d", s.Addr(254), lockPort)) //nolint:noctx // binds, waits for nobody
	s.lock = lock
	return s, err
}

// Addr is the subnet's address with this last byte, 1 to 253 for any use; 254 is
// the lock's.
func (s *Subnet) Addr(host int) string {
	return fmt.Sprintf("127.%d.%d.%d", s.second, s.third, host)
}

// Close gives the subnet back.
func (s *Subnet) Close() error { return s.lock.Close() }
