/**
 * QEMU's programs without a virtual machine: the storage daemon, a virtio-blk device behind a vhost-user socket, and qemu-img.
 *
 * @module
 */
import { NotFoundError } from "../../../lib/errors/mod.ts";
import { Peer, PeerError } from "./peer.ts";
import { findProgram, type Program, type ProgramName } from "./programs.ts";

/** What a storage daemon serves. */
export interface StorageDaemonOptions {
  /** Path of the UNIX socket. */
  readonly socket: string;
  /** A file with the disk's data, or the bytes of a disk that stores nothing and takes no time. */
  readonly disk: { readonly file: string } | { readonly nullBytes: number };
  /** Processor that it is pinned to. Default: any. */
  readonly cpu?: number;
  /** Default 1. */
  readonly queues?: number;
  /** The disk can be written. Default true. */
  readonly writable?: boolean;
  /** Nanoseconds that it looks for requests before it sleeps. Default: QEMU's, 32 µs. */
  readonly pollNs?: number;
  /** Bytes of a logical block. Default 512. */
  readonly blockBytes?: number;
}

/** Starts a storage daemon. @throws NotFoundError; PeerError */
export async function startStorageDaemon(options: StorageDaemonOptions): Promise<Peer> {
  const { socket, disk, cpu, queues = 1, writable = true, pollNs, blockBytes } = options;
  const node = "file" in disk
    ? `driver=raw,node-name=disk,file.driver=file,file.filename=${disk.file}`
    : `driver=null-co,node-name=disk,size=${disk.nullBytes},read-zeroes=off`;
  const parts = [
    "type=vhost-user-blk,id=export,node-name=disk,addr.type=unix,iothread=loop",
    `addr.path=${socket}`,
    `num-queues=${queues}`,
    `writable=${writable ? "on" : "off"}`,
    ...(blockBytes === undefined ? [] : [`logical-block-size=${blockBytes}`]),
  ];
  const peer = new Peer(program("qemu-storage-daemon"), [
    ...["--object", `iothread,id=loop${pollNs === undefined ? "" : `,poll-max-ns=${pollNs}`}`],
    ...["--blockdev", node, "--export", parts.join(",")],
  ], cpu === undefined ? {} : { cpu });
  try {
    await peer.untilListening(socket);
  } catch (error) {
    await peer.stop();
    throw error;
  }
  return peer;
}

/** What qemu-img drives: a virtio-blk device behind a socket, by libblkio. */
export interface ImageBenchOptions {
  readonly socket: string;
  /** Requests in all. */
  readonly requests: number;
  /** Requests at a time. Default 64. */
  readonly depth?: number;
  /** Bytes of a request. Default 4096. */
  readonly requestBytes?: number;
  /** Writes, of bytes of this value, instead of reads. */
  readonly write?: number;
  /** Byte of the disk at which it begins; each request is at the next bytes. Default 0. */
  readonly offset?: number;
  /** Processor that it is pinned to. Default: any. */
  readonly cpu?: number;
}

/** Drives a disk by `qemu-img bench`. @returns seconds that its requests took @throws NotFoundError; PeerError */
export async function imageBench(options: ImageBenchOptions): Promise<number> {
  await using peer = startImageBench(options);
  const text = await peer.finished(60_000);
  const seconds = text.match(/Run completed in ([\d.]+) seconds/);
  if (seconds === null) throw new PeerError(`qemu-img bench says no time:\n${text}`);
  return Number(seconds[1]);
}

/** As `imageBench`, and does not wait for its end. */
export function startImageBench(options: ImageBenchOptions): Peer {
  const { socket, requests, depth = 64, requestBytes = 4096, write, offset = 0, cpu } = options;
  return startImage([
    "bench",
    ...["-c", String(requests), "-d", String(depth), "-s", String(requestBytes), "-o", String(offset)],
    ...(write === undefined ? [] : ["-w", "--pattern", String(write)]),
    ...["--image-opts", imageOptions(socket)],
  ], cpu);
}

/** Copies a disk behind a socket to a raw file, or a raw file to the disk. @throws NotFoundError; PeerError */
export async function copyImage(
  from: { readonly socket: string } | { readonly file: string },
  to: { readonly socket: string } | { readonly file: string },
): Promise<void> {
  const image = (end: { readonly socket: string } | { readonly file: string }): string =>
    "socket" in end ? imageOptions(end.socket) : `driver=raw,file.driver=file,file.filename=${end.file}`;
  // A disk cannot be made, only written; and a file is written as one that is there.
  await using peer = startImage([
    ...["convert", "-n", "--image-opts", "--target-image-opts", image(from), image(to)],
  ]);
  await peer.finished(60_000);
}

function startImage(args: readonly string[], cpu?: number): Peer {
  return new Peer(program("qemu-img"), args, cpu === undefined ? {} : { cpu });
}

function imageOptions(socket: string): string {
  return `driver=virtio-blk-vhost-user,path=${socket},cache.direct=on`;
}

function program(name: ProgramName): Program {
  const found = findProgram(name);
  if (found === undefined) {
    throw new NotFoundError(`${name} is not here`, { hint: "run: deno task peers:setup" });
  }
  return found;
}
