import dgram from 'node:dgram';
import type fs from 'node:fs';
import net from 'node:net';
/**
 * What can be sent: the number of a descriptor, or what has one: a `net.Socket`, `net.Server`,
 * `dgram.Socket`, `FileHandle`, file stream, or anything with a property `fd`.
 */
export type Sendable = number | net.Socket | net.Server | dgram.Socket | fs.ReadStream | fs.WriteStream | {
    readonly fd: number | null;
};
