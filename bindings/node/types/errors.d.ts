/** What a send, a receiver or a probe fails with. */
export interface SendfdError extends Error {
    /** The name of the errno, such as `ECONNREFUSED`. */
    code: string;
    /** The errno, negative. */
    errno: number;
    syscall: 'sendfd';
    /** What can be done about it, where there is something. */
    hint?: string;
}
