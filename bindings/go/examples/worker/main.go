// A worker of the pool, in Go: an ordinary http.Server that listens nowhere, and is handed connections.
//
//	worker
//
// SENDFD_PORT in its environment says at which signal. SIGTERM ends it: what was sent already is served.
package main

import (
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"sync"
	"syscall"
	"time"

	"libsendfd/sendfd"
)

func main() {
	sig, err := strconv.Atoi(os.Getenv("SENDFD_PORT"))
	if err != nil {
		log.Fatal("SENDFD_PORT has to be the number of a signal")
	}
	// First: once it listens it may be sent something, and then be told to end.
	ending := make(chan os.Signal, 1)
	signal.Notify(ending, syscall.SIGTERM)
	receiver, err := sendfd.Listen(syscall.Signal(sig), nil)
	if err != nil {
		log.Fatal(err)
	}
	go func() {
		<-ending
		if err := receiver.Retire(); err != nil {
			log.Print(err)
		}
	}()
	// Server.Shutdown drops what was accepted and has not sent its request yet: the end of all is waited for instead.
	var open sync.WaitGroup
	server := &http.Server{
		ReadHeaderTimeout: 5 * time.Second,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprintf(w, "go %d\n", os.Getpid())
		}),
		ConnState: func(_ net.Conn, state http.ConnState) {
			switch state {
			case http.StateNew:
				open.Add(1)
			case http.StateClosed, http.StateHijacked:
				open.Done()
			}
		},
	}
	// Returns when the last of what was sent has been accepted.
	if err := server.Serve(receiver.Connections()); err != nil && !errors.Is(err, net.ErrClosed) {
		log.Fatal(err)
	}
	// Each connection ends with its next response, or by its timeout.
	server.SetKeepAlivesEnabled(false)
	open.Wait()
}
