import dgram from 'node:dgram';
import net from 'node:net';
/**
 * What can be sent: the number of a descriptor, or what has one: a `net.Socket`, `net.Server`,
 * `dgram.Socket`, `FileHandle`, file stream, or anything with a property `fd`.
 */
export type Sendable = number | net.Socket | net.Server | dgram.Socket | {
    readonly fd: number | null;
};
