// Package serving runs the process's HTTP servers and ends them so that no request is
// lost: readiness drops first, answers close their connections, and only when nobody
// is sent here any more do the listeners close, after the requests in flight.
//
// Not promised: anything to a client that reuses an idle connection in the very
// moment in which it is closed. HTTP/1.1 has no word for it; the delay makes it rare.
package serving
