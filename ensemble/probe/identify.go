package probe

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// identify gives a server id to the members that told none: the one that the
// configuration has at their name or address, else the one they had, else that of
// their ordinal, if that is the only way to read it.
func (v *View) identify(configs []Config) {
	var servers []ConfigMember
	taken := map[string]bool{}
	for i := range configs {
		servers = append(servers, configs[i].Members...)
	}
	for i := range v.Members {
		taken[v.Members[i].ServerID] = true
	}
	claim := func(m *Member, id string) {
		if m.ServerID == "" && id != "" && !taken[id] {
			m.ServerID, taken[id] = id, true
		}
	}
	for i := range v.Members {
		claim(&v.Members[i], hosted(v.Members[i].Answer.Target, servers))
	}
	for i := range v.Members {
		last := v.Members[i].Answer.Target.ServerID
		if slices.ContainsFunc(servers, func(s ConfigMember) bool { return s.ServerID == last }) {
			claim(&v.Members[i], last)
		}
	}
	if offset, ok := v.offset(servers, taken); ok {
		for i := range v.Members {
			if n, ok := ordinal(v.Members[i].Name); ok {
				claim(&v.Members[i], strconv.Itoa(n+offset))
			}
		}
	}
}

// hosted is the id of the one server that the configuration has at the pod's
// address, or under its name; empty if there are none or several.
func hosted(t Target, servers []ConfigMember) string {
	id := ""
	for _, s := range servers {
		if !at(t, s.Host) || s.ServerID == id {
			continue
		}
		if id != "" {
			return ""
		}
		id = s.ServerID
	}
	return id
}

func at(t Target, host string) bool {
	if ip, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		return t.IP.IsValid() && ip.Unmap() == t.IP.Unmap()
	}
	return host != "" && firstLabel(host) == t.Name
}

func firstLabel(host string) string {
	label, _, _ := strings.Cut(host, ".")
	return label
}

// offset is what server ids are above ordinals. Members whose id is known all agree
// on it; else it is the only one with which every member gets an id of its own that
// the configuration has.
func (v *View) offset(servers []ConfigMember, taken map[string]bool) (int, bool) {
	candidates := map[int]bool{}
	known := false
	for i := range v.Members {
		n, ok := ordinal(v.Members[i].Name)
		if !ok {
			return 0, false
		}
		if id, err := strconv.Atoi(v.Members[i].ServerID); err == nil {
			known = true
			candidates[id-n] = true
		}
	}
	if !known {
		for _, s := range servers {
			if id, err := strconv.Atoi(s.ServerID); err == nil && v.fits(id, servers, taken) {
				candidates[id] = true
			}
		}
	}
	if len(candidates) != 1 {
		return 0, false
	}
	for offset := range candidates {
		return offset, v.fits(offset, servers, taken)
	}
	return 0, false
}

// fits reports whether the offset gives each member that has no id one that the
// configuration has and nobody took.
func (v *View) fits(offset int, servers []ConfigMember, taken map[string]bool) bool {
	for i := range v.Members {
		if v.Members[i].ServerID != "" {
			continue
		}
		n, _ := ordinal(v.Members[i].Name)
		id := strconv.Itoa(n + offset)
		if taken[id] || !slices.ContainsFunc(servers, func(s ConfigMember) bool { return s.ServerID == id }) {
			return false
		}
	}
	return true
}

// ordinal is that of a StatefulSet's pod.
func ordinal(name string) (int, bool) {
	i := strings.LastIndexByte(name, '-')
	n, err := strconv.Atoi(name[i+1:])
	return n, err == nil && i > 0 && n >= 0
}
