package bench

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/test/lab"
)

// curatorClasspath of Debian's packages. BeanShell runs a script without the compiler
// that a Java runtime does not bring.
var curatorClasspath = []string{
	"/usr/share/java/bsh.jar", "/usr/share/java/curator-recipes.jar", "/usr/share/java/curator-framework.jar", "/usr/share/java/curator-client.jar",
	"/usr/share/java/guava.jar", "/usr/share/java/slf4j-nop.jar", "/usr/share/java/zookeeper.jar",
}

// latches are candidates by Curator's LeaderLatch, all in one JVM, each with a
// connection of its own.
type latches struct {
	commands io.Writer
	leads    chan string // names
}

func startLatches(b *testing.B, timeout time.Duration) *latches {
	b.Helper()
	for _, jar := range curatorClasspath {
		if _, err := os.Stat(jar); err != nil {
			b.Fatalf("%v: apt-get install -y --no-install-recommends libcurator-recipes-java bsh", err)
		}
	}
	cmd := exec.CommandContext(b.Context(), "java", "-Xmx128m", "-cp", strings.Join(curatorClasspath, ":"), "bsh.Interpreter", "testdata/latch.bsh", fmt.Sprint(timeout.Milliseconds()))
	commands, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	said, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	l := &latches{commands: commands, leads: make(chan string, 100)}
	heard := make(chan struct{})
	go func() {
		defer close(heard)
		for lines := bufio.NewScanner(said); lines.Scan(); {
			if name, ok := strings.CutPrefix(lines.Text(), "leads "); ok {
				l.leads <- name
			}
		}
	}()
	b.Cleanup(func() {
		_ = commands.Close()
		<-heard
		if err := cmd.Wait(); err != nil && b.Context().Err() == nil {
			b.Error(err)
		}
	})
	return l
}

func (l *latches) tell(b *testing.B, format string, args ...any) {
	b.Helper()
	if _, err := fmt.Fprintf(l.commands, format+"\n", args...); err != nil {
		b.Fatal(err)
	}
}

// await that a candidate leads. Another may have lost its connection, and lead again.
func (l *latches) await(b *testing.B, name string) {
	b.Helper()
	limit := time.NewTimer(time.Minute)
	defer limit.Stop()
	for leads := ""; leads != name; {
		select {
		case leads = <-l.leads:
		case <-limit.C:
			b.Fatalf("LeaderLatch: %s does not lead", name)
		}
	}
}

// handOversOfLatches measures, in milliseconds, n of them one after the other.
func handOversOfLatches(b *testing.B, e *lab.Ensemble, n int) []float64 {
	b.Helper()
	l := startLatches(b, 30*time.Second)
	var out []float64
	for i := range n {
		l.tell(b, "start first%d /latch/%d %s", i, i, e.Connect())
		l.await(b, fmt.Sprint("first", i))
		l.tell(b, "start second%d /latch/%d %s", i, i, e.Connect())
		<-time.After(500 * time.Millisecond) // it is in line
		begin := time.Now()
		l.tell(b, "close first%d", i)
		l.await(b, fmt.Sprint("second", i))
		out = append(out, float64(time.Since(begin))/float64(time.Millisecond))
	}
	return out
}

// takeOverOfLatch is how soon another leads whose leader's way to every server is cut,
// in milliseconds.
func takeOverOfLatch(b *testing.B, e *lab.Ensemble, l *latches, name string) float64 {
	b.Helper()
	links, err := lab.LinkClient(b.Context(), e)
	if err != nil {
		b.Fatal(err)
	}
	defer links.Close()
	l.tell(b, "start first-%s /latch/%s %s", name, name, links.Connect())
	l.await(b, "first-"+name)
	l.tell(b, "start second-%s /latch/%s %s", name, name, e.Connect())
	<-time.After(3 * time.Second)
	crashed := time.Now()
	if err := links.All((*lab.Link).Drop); err != nil {
		b.Fatal(err)
	}
	l.await(b, "second-"+name)
	return float64(time.Since(crashed)) / float64(time.Millisecond)
}
