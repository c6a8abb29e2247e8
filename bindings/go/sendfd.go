// Package sendfd hands an open descriptor to another process, by pid, on Linux: a connection, a listening socket, a
// file. It calls libsendfd, which has to be installed (`make install`, or the package libsendfd-dev).
//
// A process and a port are an address. Success means that the kernel holds a duplicate for the target: the sender may
// close its own, or exit, in the next instruction. On an error nothing was sent. Errors are [*Error], which errors.Is
// compares with the numbers of package syscall: ESRCH, ECONNREFUSED, EPERM, EAGAIN, and so on.
package sendfd

/*
#cgo pkg-config: sendfd
#include <sendfd.h>

// Go's memory must not hold pointers to Go's memory while C has it: the structs are made here.

static sendfd_options how(int timeout_ms, uint64_t tag, const void *data, uint32_t len)
{
	sendfd_options options = SENDFD_OPTIONS_INIT;
	options.timeout_ms = timeout_ms;
	options.tag = tag;
	options.data = len ? data : NULL;
	options.data_len = len;
	return options;
}

static int go_send(pid_t pid, int sig, const int *fds, size_t nfds, int timeout_ms, uint64_t tag, const void *data,
    uint32_t len)
{
	sendfd_options options = how(timeout_ms, tag, data, len);
	return sendfd_send(pid, sig, fds, nfds, &options);
}

static int go_target_open(pid_t pid, int sig, int timeout_ms, sendfd_target **out)
{
	sendfd_options options = how(timeout_ms, 0, NULL, 0);
	return sendfd_target_open(pid, sig, &options, out);
}

static int go_target_send(sendfd_target *target, const int *fds, size_t nfds, int timeout_ms, uint64_t tag,
    const void *data, uint32_t len)
{
	sendfd_options options = how(timeout_ms, tag, data, len);
	return sendfd_target_send(target, fds, nfds, &options);
}
*/
import "C"

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"sync"
	"syscall"
	"time"
	"unsafe"
)

// What one message carries at most.
const (
	MaxFiles = C.SENDFD_MAX_FDS
	MaxData  = C.SENDFD_MAX_DATA
)

// Error is what an operation failed with. errors.Is compares it with a [syscall.Errno], and with the context's error
// where the context ended the waiting.
type Error struct {
	// Op is what was attempted, in words.
	Op string
	// Errno is what the library answered.
	Errno syscall.Errno
	cause error
}

func (e *Error) Error() string {
	return fmt.Sprintf("%s: %s", e.Op, C.GoString(C.sendfd_strerror(C.int(e.Errno))))
}

// Unwrap is for errors.Is and errors.As.
func (e *Error) Unwrap() []error {
	if e.cause != nil {
		return []error{e.Errno, e.cause}
	}
	return []error{e.Errno}
}

// Port is the signal of port n, from 0 to 29. It panics for another n, which is a slip in the program.
func Port(n int) syscall.Signal {
	sig := C.sendfd_port(C.int(n))
	if sig < 0 {
		panic(fmt.Sprintf("sendfd: there is no port %d", n))
	}
	return syscall.Signal(sig)
}

// Options say what travels beside the descriptors.
type Options struct {
	// Tag is a number for the receiver.
	Tag uint64
	// Data are bytes for the receiver, at most MaxData. Above 4096 they cost a descriptor of both processes.
	Data []byte
}

// One wait in C: how long a context that ends may go unnoticed.
const slice = 20 * time.Millisecond

// attempt calls C until it answers, or the context ends. What C answers is never a part of the work: ETIMEDOUT says that
// nothing was done.
func attempt(ctx context.Context, op string, call func(timeout C.int) C.int) error {
	timeout := C.int(0)
	for {
		if err := ctx.Err(); err != nil {
			return &Error{op, syscall.ETIMEDOUT, err}
		}
		answer := call(timeout)
		if answer >= 0 {
			return nil
		}
		errno := syscall.Errno(-answer)
		// Nothing to wait with: a context that cannot end asks for an answer now.
		if ctx.Done() == nil {
			return &Error{op, errno, nil}
		}
		switch errno {
		case syscall.EAGAIN, syscall.ECONNREFUSED, syscall.ETOOMANYREFS:
			if timeout != 0 {
				return &Error{op, errno, nil}
			}
		case syscall.ETIMEDOUT:
		default:
			return &Error{op, errno, nil}
		}
		timeout = C.int(slice.Milliseconds())
	}
}

// borrow calls with the numbers of all files, each of which stays open until it has returned.
func borrow(files []syscall.Conn, fds []C.int, call func([]C.int) error) error {
	if len(files) == 0 {
		return call(fds)
	}
	raw, err := files[0].SyscallConn()
	if err != nil {
		return err
	}
	var answer error
	if err := raw.Control(func(fd uintptr) {
		answer = borrow(files[1:], append(fds, C.int(fd)), call)
	}); err != nil {
		return err
	}
	return answer
}

func first(fds []C.int) *C.int {
	if len(fds) == 0 {
		return nil
	}
	return &fds[0]
}

// Send sends the descriptors of files (an [*os.File], or a connection or listener of package net) to the process pid
// that listens on sig. They stay the caller's. With a context that can end, it waits for a target that does not listen
// yet, and for room in its queue; with context.Background it does not wait.
func Send(ctx context.Context, pid int, sig syscall.Signal, options *Options, files ...syscall.Conn) error {
	if options == nil {
		options = &Options{}
	}
	op := fmt.Sprintf("send to process %d at signal %d", pid, int(sig))
	return borrow(files, nil, func(fds []C.int) error {
		return attempt(ctx, op, func(timeout C.int) C.int {
			return C.go_send(C.pid_t(pid), C.int(sig), first(fds), C.size_t(len(fds)), timeout,
				C.uint64_t(options.Tag), unsafe.Pointer(unsafe.SliceData(options.Data)), C.uint32_t(len(options.Data)))
		})
	})
}

// Target is a process that was found once and is sent to many times. Goroutines may share it.
type Target struct {
	mutex  sync.RWMutex
	op     string
	target *C.sendfd_target
}

// OpenTarget finds the way to a process. It waits as Send does.
func OpenTarget(ctx context.Context, pid int, sig syscall.Signal) (*Target, error) {
	target := &Target{op: fmt.Sprintf("send to process %d at signal %d", pid, int(sig))}
	var out *C.sendfd_target
	err := attempt(ctx, target.op, func(timeout C.int) C.int {
		return C.go_target_open(C.pid_t(pid), C.int(sig), timeout, &out)
	})
	if err != nil {
		return nil, err
	}
	target.target = out
	runtime.SetFinalizer(target, (*Target).Close)
	return target, nil
}

// Send is the function of that name, for this target.
func (t *Target) Send(ctx context.Context, options *Options, files ...syscall.Conn) error {
	if options == nil {
		options = &Options{}
	}
	t.mutex.RLock()
	defer t.mutex.RUnlock()
	if t.target == nil {
		return &Error{t.op, syscall.EBADF, os.ErrClosed}
	}
	return borrow(files, nil, func(fds []C.int) error {
		return attempt(ctx, t.op, func(timeout C.int) C.int {
			return C.go_target_send(t.target, first(fds), C.size_t(len(fds)), timeout,
				C.uint64_t(options.Tag), unsafe.Pointer(unsafe.SliceData(options.Data)), C.uint32_t(len(options.Data)))
		})
	})
}

// Close gives the target up. It waits for sends that are under way. It may be called again.
func (t *Target) Close() error {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	if t.target != nil {
		C.sendfd_target_close(t.target)
		t.target = nil
		runtime.SetFinalizer(t, nil)
	}
	return nil
}
