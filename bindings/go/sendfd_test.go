package sendfd

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

const patience = 60 * time.Second

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func listen(t *testing.T, port int) *Receiver {
	t.Helper()
	receiver, err := Listen(Port(port), nil)
	must(t, err)
	t.Cleanup(func() { receiver.Close() })
	return receiver
}

// A worker in a process of its own: it serves the connections that it is handed.
func TestMain(m *testing.M) {
	if port := os.Getenv("SENDFD_TEST_WORKER"); port != "" {
		worker(port)
		return
	}
	os.Exit(m.Run())
}

func worker(port string) {
	n, _ := strconv.Atoi(port)
	receiver, err := Listen(Port(n), nil)
	if err != nil {
		panic(err)
	}
	for {
		message, err := receiver.Recv(context.Background())
		if errors.Is(err, syscall.ESHUTDOWN) {
			return
		}
		if err != nil {
			panic(err)
		}
		connection, err := message.Conn()
		if err != nil {
			panic(err)
		}
		if string(message.Data) == "the last" {
			receiver.Retire()
		}
		io.WriteString(connection, strconv.Itoa(os.Getpid()))
		connection.Close()
	}
}

func TestConnectionsToAnotherProcess(t *testing.T) {
	ctx := within(t)
	command := exec.Command(os.Args[0])
	command.Env = append(os.Environ(), "SENDFD_TEST_WORKER=20")
	command.Stderr = os.Stderr
	must(t, command.Start())
	defer command.Process.Kill()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer listener.Close()
	target, err := OpenTarget(ctx, command.Process.Pid, Port(20))
	must(t, err)
	defer target.Close()
	for i := 0; i < 100; i++ {
		client, err := net.Dial("tcp", listener.Addr().String())
		must(t, err)
		accepted, err := listener.Accept()
		must(t, err)
		options := &Options{}
		if i == 99 {
			options.Data = []byte("the last")
		}
		must(t, target.Send(ctx, options, accepted.(*net.TCPConn)))
		accepted.Close()
		answer, err := io.ReadAll(client)
		must(t, err)
		if string(answer) != strconv.Itoa(command.Process.Pid) {
			t.Fatalf("%q", answer)
		}
		client.Close()
	}
	must(t, command.Wait())
}

func TestWhatTravels(t *testing.T) {
	ctx := within(t)
	receiver := listen(t, 21)
	ours, theirs, err := os.Pipe()
	must(t, err)
	defer ours.Close()
	long := strings.Repeat("long ", 20_000)
	must(t, Send(ctx, os.Getpid(), Port(21), &Options{Tag: 1 << 63, Data: []byte(long)}, theirs, ours))
	theirs.Close()
	message, err := receiver.Recv(ctx)
	must(t, err)
	if len(message.Files) != 2 || message.Tag != 1<<63 || string(message.Data) != long ||
		message.Pid != os.Getpid() || int(message.Uid) != os.Getuid() {
		t.Fatalf("%d files, tag %d, %d bytes from %d", len(message.Files), message.Tag, len(message.Data), message.Pid)
	}
	io.WriteString(message.Files[0], "through the pipe")
	message.Close()
	text, err := io.ReadAll(ours)
	must(t, err)
	if string(text) != "through the pipe" {
		t.Fatalf("%q", text)
	}
}

func TestErrors(t *testing.T) {
	file, err := os.Open("/dev/null")
	must(t, err)
	defer file.Close()
	is := func(err error, errno error) {
		t.Helper()
		if !errors.Is(err, errno) {
			t.Fatalf("%v is no %v", err, errno)
		}
	}
	is(Send(context.Background(), os.Getpid(), Port(22), nil, file), syscall.ECONNREFUSED)
	is(Send(context.Background(), os.Getpid(), syscall.SIGTERM, nil, file), syscall.EINVAL)
	is(Send(context.Background(), 1<<30, Port(22), nil, file), syscall.ESRCH)
	short, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	err = Send(short, os.Getpid(), Port(22), nil, file)
	is(err, syscall.ETIMEDOUT)
	is(err, context.DeadlineExceeded)

	receiver := listen(t, 22)
	_, err = Listen(Port(22), nil)
	is(err, syscall.EADDRINUSE)
	_, err = receiver.Recv(short)
	is(err, context.DeadlineExceeded)
	// The end of one context is not another's.
	must(t, Send(context.Background(), os.Getpid(), Port(22), nil, file))
	message, err := receiver.Recv(within(t))
	must(t, err)
	message.Close()

	must(t, receiver.Retire())
	_, err = receiver.Recv(within(t))
	is(err, syscall.ESHUTDOWN)
	must(t, receiver.Close())
	must(t, receiver.Close())
	_, err = receiver.Recv(within(t))
	is(err, os.ErrClosed)
}

func TestCloseWakesWhoWaits(t *testing.T) {
	receiver := listen(t, 23)
	ended := make(chan error)
	go func() {
		_, err := receiver.Recv(within(t))
		ended <- err
	}()
	receiver.Close()
	if err := <-ended; !errors.Is(err, os.ErrClosed) {
		t.Fatal(err)
	}
}

// Those whose context ends leave, and the others go on.
func TestContextsOfManyEnd(t *testing.T) {
	receiver := listen(t, 25)
	ctx := within(t)
	var leaving, staying sync.WaitGroup
	for n := 0; n < 20; n++ {
		leaving.Add(1)
		go func(n int) {
			defer leaving.Done()
			short, cancel := context.WithTimeout(ctx, time.Duration(n)*time.Millisecond)
			defer cancel()
			if _, err := receiver.Recv(short); !errors.Is(err, context.DeadlineExceeded) {
				t.Error(err)
			}
		}(n)
		staying.Add(1)
		go func() {
			defer staying.Done()
			message, err := receiver.Recv(ctx)
			if err != nil {
				t.Error(err)
				return
			}
			message.Close()
		}()
	}
	leaving.Wait()
	file, err := os.Open("/dev/null")
	must(t, err)
	defer file.Close()
	for n := 0; n < 20; n++ {
		must(t, Send(ctx, os.Getpid(), Port(25), nil, file))
	}
	staying.Wait()
}

func TestManyGoroutines(t *testing.T) {
	const senders, each = 8, 100
	ctx := within(t)
	receiver := listen(t, 24)
	var sending, receiving sync.WaitGroup
	var mutex sync.Mutex
	seen := map[uint64]bool{}
	for n := 0; n < 4; n++ {
		receiving.Add(1)
		go func() {
			defer receiving.Done()
			for {
				message, err := receiver.Recv(ctx)
				if errors.Is(err, syscall.ESHUTDOWN) {
					return
				}
				if err != nil {
					t.Error(err)
					return
				}
				message.Close()
				mutex.Lock()
				if seen[message.Tag] {
					t.Errorf("%d came twice", message.Tag)
				}
				seen[message.Tag] = true
				mutex.Unlock()
			}
		}()
	}
	for n := 0; n < senders; n++ {
		sending.Add(1)
		go func(n int) {
			defer sending.Done()
			file, err := os.Open("/dev/null")
			if err != nil {
				t.Error(err)
				return
			}
			defer file.Close()
			for i := 0; i < each; i++ {
				if err := Send(ctx, os.Getpid(), Port(24), &Options{Tag: uint64(n*each + i)}, file); err != nil {
					t.Error(err)
					return
				}
			}
		}(n)
	}
	sending.Wait()
	must(t, receiver.Retire())
	receiving.Wait()
	if len(seen) != senders*each {
		t.Fatalf("%d of %d", len(seen), senders*each)
	}
}

// The example, as the pool would start it: it serves what it is handed, and what it was handed before its end.
func TestExampleServesAndRetires(t *testing.T) {
	ctx := within(t)
	program := t.TempDir() + "/worker"
	build := exec.Command("go", "build", "-o", program, "./examples/worker")
	build.Stderr = os.Stderr
	must(t, build.Run())
	worker := exec.Command(program)
	worker.Env = append(os.Environ(), "SENDFD_PORT="+strconv.Itoa(int(Port(26))))
	worker.Stderr = os.Stderr
	must(t, worker.Start())
	defer worker.Process.Kill()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer listener.Close()
	target, err := OpenTarget(ctx, worker.Process.Pid, Port(26))
	must(t, err)
	defer target.Close()
	var clients []net.Conn
	for i := 0; i < 50; i++ {
		client, err := net.Dial("tcp", listener.Addr().String())
		must(t, err)
		defer client.Close()
		io.WriteString(client, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
		accepted, err := listener.Accept()
		must(t, err)
		must(t, target.Send(ctx, nil, accepted.(*net.TCPConn)))
		accepted.Close()
		clients = append(clients, client)
	}
	must(t, worker.Process.Signal(syscall.SIGTERM))
	for _, client := range clients {
		must(t, client.SetDeadline(time.Now().Add(patience)))
		answer, err := io.ReadAll(client)
		must(t, err)
		if !strings.HasSuffix(string(answer), "go "+strconv.Itoa(worker.Process.Pid)+"\n") {
			t.Fatalf("%q", answer)
		}
	}
	must(t, worker.Wait())
}
