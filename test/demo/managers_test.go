package main

import "testing"

func TestTermOfReadsWhatElectTellsItsCommand(t *testing.T) {
	got, ok := termOf("PATH=/bin\x00QUORATE_IDENTITY=manager-b_0a1b2c3d\x00QUORATE_FENCING_TOKEN=4294967303\x00")
	if want := (elected{name: "manager-b", token: 4294967303}); got != want || !ok {
		t.Errorf("got %+v, %v, want %+v, true", got, ok, want)
	}
	if got, ok := termOf("PATH=/bin\x00"); ok {
		t.Errorf("got %+v of a program that nobody elected", got)
	}
}

func TestLeadsWantsLeaderTokenAndStandbys(t *testing.T) {
	table := "NAMESPACE   NAME      LEADER               SINCE      TOKEN        TERMS   STANDBYS\n" +
		"default     manager   manager-b_0a1b2c3d   12:00:00   4294967303   1       manager-c_4e5f6a7b\n"
	for name, c := range map[string]struct {
		term     elected
		standbys int
		want     bool
	}{
		"the leader":        {elected{name: "manager-b", token: 4294967303}, 1, true},
		"a standby":         {elected{name: "manager-c", token: 4294967303}, 1, false},
		"another token":     {elected{name: "manager-b", token: 4294967302}, 1, false},
		"a standby missing": {elected{name: "manager-b", token: 4294967303}, 2, false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := leads(table, c.term, c.standbys); got != c.want {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}
