/** The way that a message takes. */
export type Path = 'syscall' | 'pidfd' | 'name';
/** What a descriptor refers to, as `detect` found it. */
export interface Kind {
    /** The type of the open file; `anonymous` is an eventfd, a pidfd, an epoll instance, ... */
    readonly type: 'socket' | 'file' | 'directory' | 'pipe' | 'character-device' | 'block-device' | 'anonymous';
    /** Of a socket: its family; the number of another one, as in `<sys/socket.h>`. */
    readonly family?: 'IPv4' | 'IPv6' | 'unix' | number;
    /** Of a socket: its type; the number of another one. */
    readonly socketType?: 'stream' | 'dgram' | 'seqpacket' | number;
    /** Of a socket: its protocol, such as 6 for TCP. */
    readonly protocol?: number;
    /** Of a socket: whether connections are to be accepted from it. */
    readonly listening?: boolean;
    /** Whether it was opened for reading. */
    readonly readable: boolean;
    /** Whether it was opened for writing. */
    readonly writable: boolean;
}
