import type { Message } from './message';
/** How a server is served. */
export interface ServeOptions {
    /**
     * Called with each message that brings no connection, or several descriptors, and owns it. Without
     * it, they are closed, with a `SendfdWarning`.
     */
    other?: ((message: Message) => void) | undefined;
}
