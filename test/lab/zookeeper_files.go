package lab

import (
	"crypto/sha1" //nolint:gosec // ZooKeeper's digest scheme is SHA-1
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	zooKeeperJar = "/usr/share/java/zookeeper.jar"
	servletJar   = "/usr/share/java/servlet-api.jar" // without it the AdminServer silently does not start
	loggerJar    = "/usr/share/java/slf4j-simple.jar"
	nettyJar     = "/usr/share/java/netty-codec.jar" // a TLS port needs it, and ZooKeeper's manifest does not name it
)

const (
	dynamicConfig = "zoo.cfg.dynamic"
	// established, after the name of the file, is the version of a configuration that
	// servers do not replace by their leader's when they first meet (ZOOKEEPER-1783):
	// each keeps its own idea of where the others are.
	established = ".100000000"
)

// zooKeeperClasspath finds what a server needs, or says what to install.
func zooKeeperClasspath() (string, error) {
	var missing []string
	if _, err := exec.LookPath("java"); err != nil {
		missing = append(missing, "java")
	}
	for _, jar := range []string{zooKeeperJar, servletJar} {
		if _, err := os.Stat(jar); err != nil {
			missing = append(missing, jar)
		}
	}
	if len(missing) > 0 {
		return "", fmt.Errorf("the lab needs %s: apt-get install -y --no-install-recommends zookeeper libservlet-api-java default-jre-headless",
			strings.Join(missing, " and "))
	}
	return strings.Join([]string{zooKeeperJar, servletJar, loggerJar, nettyJar}, ":"), nil
}

// digest is ZooKeeper's form of a user and password.
func digest(user, password string) string {
	sum := sha1.Sum([]byte(user + ":" + password)) //nolint:gosec // as ZooKeeper does
	return user + ":" + base64.StdEncoding.EncodeToString(sum[:])
}

// writeConfig writes what is not there yet: a server that was reconfigured has its
// own idea of the server list, and keeps it.
func (s *Server) writeConfig() error {
	if err := os.MkdirAll(s.DataDir(), 0o755); err != nil {
		return err
	}
	dynamic := filepath.Join(s.dir(), dynamicConfig)
	if s.config.PeerLinks {
		dynamic += established
	}
	return errors.Join(
		writeIfAbsent(filepath.Join(s.DataDir(), "myid"), strconv.Itoa(s.member.ID)+"\n"),
		writeIfAbsent(dynamic, s.serverList()),
		writeIfAbsent(filepath.Join(s.dir(), "zoo.cfg"), s.staticConfig(dynamic)),
	)
}

func writeIfAbsent(path, content string) error {
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	return os.WriteFile(path, []byte(content), 0o644)
}

// staticConfig is zoo.cfg.
func (s *Server) staticConfig(dynamic string) string {
	c := s.config
	properties := map[string]string{
		"tickTime":               strconv.FormatInt(orElse(c.TickTime, 500*time.Millisecond).Milliseconds(), 10),
		"initLimit":              strconv.Itoa(orElse(c.InitLimit, 20)),
		"syncLimit":              strconv.Itoa(orElse(c.SyncLimit, 10)),
		"dataDir":                s.DataDir(),
		"dynamicConfigFile":      dynamic,
		"standaloneEnabled":      "false",
		"reconfigEnabled":        strconv.FormatBool(!c.PeerLinks),
		"4lw.commands.whitelist": orElse(c.Whitelist, "*"),
		"admin.enableServer":     strconv.FormatBool(!c.NoAdmin),
		"admin.serverAddress":    s.member.ClientHost,
		"admin.serverPort":       strconv.Itoa(s.member.AdminPort),
		"quorumListenOnAllIPs":   "false",
		"maxClientCnxns":         "0",
		"forceSync":              "no", // a killed process loses no page cache
		// Elections on loopback need not wait long for stragglers.
		"fastleader.minNotificationInterval": "50",
		"fastleader.maxNotificationInterval": "500",
		"cnxTimeout":                         "1000",
	}
	if s.member.Observer {
		properties["peerType"] = "observer"
	}
	if c.TLS != nil {
		maps.Copy(properties, map[string]string{
			"serverCnxnFactory":        "org.apache.zookeeper.server.NettyServerCnxnFactory",
			"secureClientPort":         strconv.Itoa(s.member.SecurePort),
			"secureClientPortAddress":  s.member.ClientHost,
			"ssl.keyStore.location":    c.TLS.KeyFile,
			"ssl.keyStore.type":        "PEM",
			"ssl.trustStore.location":  c.TLS.TrustFile,
			"ssl.trustStore.type":      "PEM",
			"ssl.clientAuth":           orElse(c.TLS.ClientAuth, "need"),
			"ssl.hostnameVerification": "false",
		})
	}
	maps.Copy(properties, c.Properties)
	var b strings.Builder
	for _, key := range slices.Sorted(maps.Keys(properties)) {
		fmt.Fprintf(&b, "%s=%s\n", key, properties[key])
	}
	return b.String()
}

// serverList is the dynamic configuration as this server sees it.
func (s *Server) serverList() string {
	var b strings.Builder
	groups := map[int][]string{}
	for _, m := range s.config.Members {
		m = m.withDefaults()
		host, role := m.Host, "participant"
		if link := s.through[[2]int{s.member.ID, m.ID}]; link != nil {
			host = link.host
		}
		if m.Observer {
			role = "observer"
		}
		fmt.Fprintf(&b, "server.%d=%s:%d:%d:%s;%s:%d\n", m.ID, host, m.PeerPort, m.ElectionPort, role, m.ClientHost, m.ClientPort)
		if m.Group != 0 {
			groups[m.Group] = append(groups[m.Group], strconv.Itoa(m.ID))
			fmt.Fprintf(&b, "weight.%d=%d\n", m.ID, m.Weight)
		}
	}
	for _, group := range slices.Sorted(maps.Keys(groups)) {
		fmt.Fprintf(&b, "group.%d=%s\n", group, strings.Join(groups[group], ":"))
	}
	return b.String()
}

// orElse is the value, or the default where it is zero.
func orElse[T comparable](value, otherwise T) T {
	var zero T
	if value == zero {
		return otherwise
	}
	return value
}
