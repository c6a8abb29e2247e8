package sendfd

/*
#include <sendfd.h>

typedef struct go_message {
	uint32_t nfds, data_len;
	uint64_t tag;
	int32_t pid;
	uint32_t uid, gid;
} go_message;

static int go_recv(sendfd_receiver *receiver, int *fds, uint32_t max_fds, void *data, uint32_t max_data, go_message *out)
{
	sendfd_message message = SENDFD_MESSAGE_INIT;
	message.fds = fds;
	message.max_fds = max_fds;
	message.data = data;
	message.max_data = max_data;
	int err = sendfd_receiver_recv(receiver, &message, 0);
	out->nfds = message.nfds;
	out->data_len = message.data_len;
	out->tag = message.tag;
	out->pid = message.pid;
	out->uid = message.uid;
	out->gid = message.gid;
	return err;
}

static int go_open(int sig, uint32_t nuids, const uid_t *uids, sendfd_receiver **out)
{
	sendfd_receiver_options options = SENDFD_RECEIVER_OPTIONS_INIT;
	options.nuids = nuids;
	options.uids = nuids ? uids : NULL;
	return sendfd_receiver_open(sig, &options, out);
}
*/
import "C"

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
	"unsafe"
)

// ReceiverOptions say who else is listened to.
type ReceiverOptions struct {
	// Users are the user ids that are accepted beside this process's own and root.
	Users []uint32
}

// Receiver takes what other processes send to one signal of this one. Goroutines may share it; while they wait, they
// hold no thread. No signal is raised.
type Receiver struct {
	sig syscall.Signal
	// The pollable descriptor, a duplicate that Go's own poller watches.
	poll *os.File
	raw  syscall.RawConn

	// How many wait although their contexts have ended.
	ending sync.Mutex
	ended  int

	mutex    sync.Mutex
	receiver *C.sendfd_receiver
	fds      []C.int
	data     []byte
}

// Listen receives at sig from now on. EADDRINUSE says that this process does so already.
func Listen(sig syscall.Signal, options *ReceiverOptions) (*Receiver, error) {
	if options == nil {
		options = &ReceiverOptions{}
	}
	var out *C.sendfd_receiver
	users := unsafe.SliceData(options.Users)
	answer := C.go_open(C.int(sig), C.uint32_t(len(options.Users)), (*C.uid_t)(users), &out)
	if answer < 0 {
		return nil, &Error{"listen at a signal", syscall.Errno(-answer), nil}
	}
	fd := int(C.sendfd_receiver_fd(out))
	copied, err := fcntl(fd, syscall.F_DUPFD_CLOEXEC)
	if err == nil {
		err = syscall.SetNonblock(copied, true)
	}
	if err != nil {
		C.sendfd_receiver_close(out)
		return nil, err
	}
	r := &Receiver{
		sig:      sig,
		poll:     os.NewFile(uintptr(copied), "sendfd"),
		receiver: out,
		fds:      make([]C.int, MaxFiles),
		data:     make([]byte, MaxData),
	}
	if r.raw, err = r.poll.SyscallConn(); err != nil {
		r.Close()
		return nil, err
	}
	return r, nil
}

func fcntl(fd, command int) (int, error) {
	answer, _, errno := syscall.Syscall(syscall.SYS_FCNTL, uintptr(fd), uintptr(command), 0)
	if errno != 0 {
		return -1, errno
	}
	return int(answer), nil
}

// Recv waits for a message, until the context ends. ESHUTDOWN says that the receiver has retired and that there are no
// more; with EMFILE and ENFILE the message stays, and comes when there are descriptors again. After Close it is
// os.ErrClosed.
func (r *Receiver) Recv(ctx context.Context) (*Message, error) {
	defer r.interruptedBy(ctx)()
	for {
		if err := ctx.Err(); err != nil {
			return nil, &Error{"receive", syscall.ETIMEDOUT, err}
		}
		var message *Message
		var failed error
		err := r.raw.Read(func(uintptr) bool {
			message, failed = r.take()
			return !errors.Is(failed, syscall.EAGAIN)
		})
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			// This context has ended, or that of another goroutine that waits here and is about to leave.
		case err != nil:
			// Closed. What the poller calls that is not what the world calls it.
			return nil, os.ErrClosed
		case failed != nil:
			return nil, failed
		default:
			return message, nil
		}
	}
}

// interruptedBy has the end of a context wake who waits, by the one deadline that all share. It stands in the past for
// as long as somebody whose context has ended has not left, and answers how to leave.
func (r *Receiver) interruptedBy(ctx context.Context) (leave func()) {
	var hasEnded, hasLeft bool
	stop := context.AfterFunc(ctx, func() {
		r.ending.Lock()
		defer r.ending.Unlock()
		if !hasLeft {
			hasEnded = true
			r.ended++
			_ = r.poll.SetReadDeadline(time.Unix(1, 0))
		}
	})
	return func() {
		stop()
		r.ending.Lock()
		defer r.ending.Unlock()
		hasLeft = true
		if hasEnded {
			r.ended--
			if r.ended == 0 {
				_ = r.poll.SetReadDeadline(time.Time{})
			}
		}
	}
}

// take is what Recv does when there may be a message.
func (r *Receiver) take() (*Message, error) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	if r.receiver == nil {
		return nil, os.ErrClosed
	}
	var out C.go_message
	answer := C.go_recv(r.receiver, &r.fds[0], MaxFiles, unsafe.Pointer(&r.data[0]), MaxData, &out)
	if answer < 0 {
		return nil, &Error{"receive", syscall.Errno(-answer), nil}
	}
	message := &Message{
		Tag:   uint64(out.tag),
		Pid:   int(out.pid),
		Uid:   uint32(out.uid),
		Gid:   uint32(out.gid),
		Data:  append([]byte(nil), r.data[:out.data_len]...),
		Files: make([]*os.File, out.nfds),
	}
	for i := range message.Files {
		message.Files[i] = os.NewFile(uintptr(r.fds[i]), "received")
	}
	return message, nil
}

// Retire takes no more from now on: senders get ECONNREFUSED. Recv gives out what was sent already, then ESHUTDOWN.
func (r *Receiver) Retire() error {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	if r.receiver == nil {
		return os.ErrClosed
	}
	if answer := C.sendfd_receiver_retire(r.receiver); answer < 0 {
		return &Error{"retire", syscall.Errno(-answer), nil}
	}
	return nil
}

// Close ends receiving; what was sent and not received is closed. A Recv that waits answers. It may be called again.
func (r *Receiver) Close() error {
	r.mutex.Lock()
	open := r.receiver != nil
	if open {
		C.sendfd_receiver_close(r.receiver)
		r.receiver = nil
	}
	r.mutex.Unlock()
	if !open {
		return nil
	}
	// It waits for those that are about to look: without the lock, which they take.
	return r.poll.Close()
}

// Message is what another process sent. Its files are the receiver's, to be closed by it.
type Message struct {
	// Files are the descriptors, in the order sent, all close-on-exec.
	Files []*os.File
	// Data are the sender's bytes.
	Data []byte
	// Tag is the sender's number.
	Tag uint64
	// Pid, Uid and Gid say who sent it, vouched for by the kernel. Pid is no address to answer to: by then it may be
	// another's. It is 0 if the sender cannot be seen from here.
	Pid      int
	Uid, Gid uint32
}

// Conn takes the first descriptor out as a connection.
func (m *Message) Conn() (net.Conn, error) { return takeFirst(m, net.FileConn) }

// Listener takes the first descriptor out as a listening socket.
func (m *Message) Listener() (net.Listener, error) { return takeFirst(m, net.FileListener) }

// takeFirst takes the first file out as what as makes of it, which is a duplicate.
func takeFirst[T any](m *Message, as func(*os.File) (T, error)) (T, error) {
	if len(m.Files) == 0 {
		var none T
		return none, os.ErrClosed
	}
	file := m.Files[0]
	m.Files = m.Files[1:]
	defer file.Close()
	return as(file)
}

// Close closes the files that were not taken out.
func (m *Message) Close() error {
	for _, file := range m.Files {
		_ = file.Close()
	}
	m.Files = nil
	return nil
}

// Connections is a listener whose Accept receives: http.Serve(receiver.Connections(), handler) serves what others
// accepted. After Retire it accepts what was sent already, and then ends with net.ErrClosed. What is no connection is
// closed and passed over. Closing it closes the receiver.
func (r *Receiver) Connections() net.Listener { return connections{r} }

type connections struct{ receiver *Receiver }

func (c connections) Accept() (net.Conn, error) {
	for {
		message, err := c.receiver.Recv(context.Background())
		switch {
		case errors.Is(err, syscall.ESHUTDOWN), errors.Is(err, os.ErrClosed):
			return nil, net.ErrClosed
		case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
			// Nothing is lost: it comes when there are descriptors again.
			time.Sleep(10 * time.Millisecond)
			continue
		case err != nil:
			return nil, err
		}
		connection, err := message.Conn()
		_ = message.Close()
		if err == nil {
			return connection, nil
		}
	}
}

func (c connections) Close() error   { return c.receiver.Close() }
func (c connections) Addr() net.Addr { return address(c.receiver.sig) }

type address syscall.Signal

func (address) Network() string  { return "sendfd" }
func (a address) String() string { return fmt.Sprintf("signal %d", int(a)) }
