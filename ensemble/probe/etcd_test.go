package probe

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
)

// etcdServer is a leader of one member that raises alarms, its own and another's.
type etcdServer struct {
	pb.UnimplementedMaintenanceServer
	pb.UnimplementedClusterServer
	alarms []*pb.AlarmMember
	err    error
}

func (s *etcdServer) Status(context.Context, *pb.StatusRequest) (*pb.StatusResponse, error) {
	return &pb.StatusResponse{Header: &pb.ResponseHeader{MemberId: 1}, Leader: 1, RaftTerm: 2, RaftIndex: 7}, nil
}

func (s *etcdServer) MemberList(context.Context, *pb.MemberListRequest) (*pb.MemberListResponse, error) {
	return &pb.MemberListResponse{Members: []*pb.Member{{ID: 1, Name: "etcd-0"}}}, nil
}

func (s *etcdServer) Alarm(context.Context, *pb.AlarmRequest) (*pb.AlarmResponse, error) {
	return &pb.AlarmResponse{Alarms: s.alarms}, s.err
}

// A member whose data is corrupt is not in sync, nor is one that does not tell; the alarm
// of another member says nothing about it.
func TestEtcdAlarms(t *testing.T) {
	corrupt := func(member uint64) []*pb.AlarmMember {
		return []*pb.AlarmMember{{MemberID: member, Alarm: pb.AlarmType_CORRUPT}}
	}
	for name, c := range map[string]struct {
		server etcdServer
		alarms []string
		want   Health
	}{
		"none":       {want: Synced},
		"another's":  {server: etcdServer{alarms: corrupt(2)}, want: Synced},
		"its own":    {server: etcdServer{alarms: corrupt(1)}, alarms: []string{"CORRUPT"}, want: NotSynced},
		"not told":   {server: etcdServer{err: errors.New("no")}, want: NotSynced},
		"of no room": {server: etcdServer{alarms: []*pb.AlarmMember{{MemberID: 1, Alarm: pb.AlarmType_NOSPACE}}}, alarms: []string{"NOSPACE"}, want: Synced},
	} {
		t.Run(name, func(t *testing.T) {
			l, s := listen(t), grpc.NewServer()
			pb.RegisterMaintenanceServer(s, &c.server)
			pb.RegisterClusterServer(s, &c.server)
			done := make(chan error, 1)
			go func() { done <- s.Serve(l) }()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			a := (&Etcd{ClientPort: portOf(l.Addr())}).Probe(ctx, loopback("etcd-0"))
			s.Stop()
			if err := <-done; err != nil {
				t.Error(err)
			}
			v := Judge([]Answer{a}, Rules{}, time.Now())
			if !slices.Equal(a.Alarms, c.alarms) || v.Members[0].Health != c.want {
				t.Errorf("got the alarms %v and %s (%s), want %v and %s", a.Alarms, v.Members[0].Health, v.Members[0].Reason, c.alarms, c.want)
			}
		})
	}
}
