/**
 * Stream sockets in the file system that pass open files (SCM_RIGHTS).
 *
 * @module
 */
import { PeerGoneError, ProtocolError, TimeoutError, UsageError } from "../lib/errors/mod.ts";
import { OwnedFd } from "./fd.ts";
import { errnoNumber } from "./errno.ts";
import { addressOf } from "./ioctl.ts";
import { callLength, cString, libc } from "./libc.ts";
import { check, SyscallError } from "./syscall_error.ts";

const AF_UNIX = 1;
const SOCK_STREAM = 1;
const SOCK_CLOEXEC = 0o2000000;
const SOCK_NONBLOCK = 0o4000;
const SOL_SOCKET = 1;
const SCM_RIGHTS = 1;
const SO_RCVTIMEO = 20;
const SO_SNDTIMEO = 21;
const MSG_NOSIGNAL = 0x4000;
const MSG_DONTWAIT = 0x40;
const MSG_CMSG_CLOEXEC = 0x40000000;
const MSG_CTRUNC = 8;
const CMSG_HEADER = 16;
/** A month. */
const LONGEST_TIMEOUT_MS = 2 ** 31;

/** V8 keeps the bytes of arrays up to this size where it moves them about. */
const SMALL_BYTES = 64;

/** How many descriptors one message may carry (SCM_MAX_FD). */
export const MAX_FDS_A_MESSAGE = 253;

/** What one `receive` brought. */
export interface Received {
  /** Bytes received; 0 when the peer has closed. */
  length: number;
  /** Descriptors that came along; the caller owns them. */
  fds: OwnedFd[];
}

/** struct msghdr with one iovec and room for control data, reused for every call of one socket. */
class MessageHeader {
  readonly header: Uint8Array<ArrayBuffer> = new Uint8Array(56);
  readonly control: Uint8Array<ArrayBuffer> = new Uint8Array(CMSG_HEADER + 4 * MAX_FDS_A_MESSAGE + 4);
  readonly controlView: DataView = new DataView(this.control.buffer);
  readonly #view = new DataView(this.header.buffer);
  // Over an ArrayBuffer of its own: its address is kept in the header, and V8 may move a small array that has none.
  readonly #iov = new BigUint64Array(new ArrayBuffer(16));
  readonly #controlAddress = addressOf(this.control);
  /** What the header has now. */
  #bytes: Uint8Array<ArrayBuffer> | null = null;
  #length = 0;

  constructor() {
    this.#view.setBigUint64(16, addressOf(this.#iov), true);
    this.#view.setBigUint64(24, 1n, true);
  }

  /** @param again the same array comes again and again: a socket is looked at thousands of times while its device is waited for */
  prepare(
    bytes: Uint8Array<ArrayBuffer>,
    controlLength: number,
    again = false,
  ): Uint8Array<ArrayBuffer> {
    // Small arrays may move.
    if (bytes !== this.#bytes || bytes.byteLength !== this.#length || this.#length <= SMALL_BYTES) {
      this.#bytes = again ? bytes : null;
      this.#length = bytes.byteLength;
      this.#iov[0] = addressOf(bytes);
      this.#iov[1] = callLength(bytes);
    }
    this.#view.setBigUint64(32, controlLength === 0 ? 0n : this.#controlAddress, true);
    // A length of 64 bits, far below 2^32.
    this.#view.setUint32(40, controlLength, true);
    this.#view.setUint32(44, 0, true);
    this.#view.setInt32(48, 0, true);
    return this.header;
  }

  get controlLength(): number {
    return this.#view.getUint32(40, true);
  }

  get flags(): number {
    return this.#view.getInt32(48, true);
  }
}

/** struct sockaddr_un. */
function socketAddress(path: string): Uint8Array<ArrayBuffer> {
  const name = cString(path);
  if (name.byteLength > 108) {
    throw new UsageError(`socket path ${path} is longer than the 107 bytes that the kernel takes`, {
      hint: "use a shorter directory",
    });
  }
  const address = new Uint8Array(2 + name.byteLength);
  new DataView(address.buffer).setUint16(0, AF_UNIX, true);
  address.set(name, 2);
  return address;
}

/** A connected stream socket. */
export class UnixSocket implements Disposable {
  /** The descriptor. */
  readonly fd: OwnedFd;
  readonly #out = new MessageHeader();
  readonly #in = new MessageHeader();

  /** Wraps a connected socket, and owns it. */
  constructor(fd: OwnedFd) {
    this.fd = fd;
  }

  /**
   * Connects to a listening socket. With `timeoutMs` above 0 it waits no longer than that for a place in the listener's queue,
   * and the socket keeps the limit (see `setTimeoutMs`).
   * @throws SyscallError, TimeoutError, UsageError
   */
  static connect(path: string, timeoutMs = 0): UnixSocket {
    const address = socketAddress(path);
    const fd = new OwnedFd(check(libc.socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket", path), path);
    using opened = new DisposableStack();
    const socket = opened.use(new UnixSocket(fd));
    if (timeoutMs > 0) socket.setTimeoutMs(timeoutMs);
    const connected = libc.connect(fd.number, address, address.byteLength);
    if (connected < 0) {
      if (connected === -errnoNumber.EAGAIN!) socket.#fail("connect", -connected);
      throw new SyscallError("connect", path, -connected, {
        hint: "is the server running, and is this its socket?",
      });
    }
    opened.move();
    return socket;
  }

  /** Two connected sockets. @throws SyscallError */
  static pair(): [UnixSocket, UnixSocket] {
    const numbers = new Int32Array(2);
    const bytes = new Uint8Array(numbers.buffer);
    check(libc.socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, bytes), "socketpair", "");
    return [
      new UnixSocket(new OwnedFd(numbers[0]!, "socket pair")),
      new UnixSocket(new OwnedFd(numbers[1]!, "socket pair")),
    ];
  }

  /** Limits how long a `send` or `receive` may block; 0 means no limit. @throws SyscallError */
  setTimeoutMs(timeoutMs: number): void {
    // Less than a microsecond is no 0, and the kernel takes what is beyond its range for an error.
    const microseconds = BigInt(Math.ceil(Math.min(timeoutMs, LONGEST_TIMEOUT_MS) * 1000));
    const timeval = new BigInt64Array([microseconds / 1_000_000n, microseconds % 1_000_000n]);
    const bytes = new Uint8Array(timeval.buffer);
    check(libc.setsockopt(this.fd.number, SOL_SOCKET, SO_RCVTIMEO, bytes, 16), "setsockopt", this.fd.target);
    check(libc.setsockopt(this.fd.number, SOL_SOCKET, SO_SNDTIMEO, bytes, 16), "setsockopt", this.fd.target);
  }

  /**
   * Sends all of `bytes`, with `fds` beside the first byte. The descriptors stay the caller's.
   * @throws PeerGoneError, TimeoutError, SyscallError
   */
  send(bytes: Uint8Array<ArrayBuffer>, fds: readonly OwnedFd[] = []): void {
    let rest = bytes;
    let control = this.#control(fds);
    while (rest.byteLength > 0) {
      const n = libc.sendmsg(this.fd.number, this.#out.prepare(rest, control), MSG_NOSIGNAL);
      // A socket with a timeout is never restarted by the kernel after a signal (signal(7)).
      if (n === -errnoNumber.EINTR!) continue;
      if (n < 0) this.#fail("sendmsg", -n);
      rest = rest.subarray(n);
      control = 0;
    }
  }

  /** Puts descriptors into the control data. @returns its length */
  #control(fds: readonly OwnedFd[]): number {
    if (fds.length === 0) return 0;
    if (fds.length > MAX_FDS_A_MESSAGE) throw new UsageError(`${fds.length} descriptors in one message`);
    const view = this.#out.controlView;
    const length = CMSG_HEADER + 4 * fds.length;
    view.setBigUint64(0, BigInt(length), true);
    view.setInt32(8, SOL_SOCKET, true);
    view.setInt32(12, SCM_RIGHTS, true);
    fds.forEach((fd, i) => view.setInt32(CMSG_HEADER + 4 * i, fd.number, true));
    return (length + 7) & ~7;
  }

  /**
   * Sends what the kernel takes without waiting, with `fds` beside the first byte. The descriptors stay the caller's.
   * @returns how many bytes; 0: none now, and no descriptor either @throws PeerGoneError, SyscallError
   */
  sendSome(bytes: Uint8Array<ArrayBuffer>, fds: readonly OwnedFd[] = []): number {
    const header = this.#out.prepare(bytes, this.#control(fds));
    const n = libc.sendmsg(this.fd.number, header, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n >= 0) return n;
    if (n === -errnoNumber.EAGAIN! || n === -errnoNumber.EINTR!) return 0;
    this.#fail("sendmsg", -n);
  }

  /**
   * Receives up to `into.byteLength` bytes, and the descriptors that came with them.
   * With `wait: false` it returns undefined at once when nothing is there.
   * @throws PeerGoneError, ProtocolError (more descriptors than fit), TimeoutError, SyscallError
   */
  receive(into: Uint8Array<ArrayBuffer>, options: { wait?: boolean } = {}): Received | undefined {
    const flags = MSG_CMSG_CLOEXEC | (options.wait === false ? MSG_DONTWAIT : 0);
    const header = this.#in.prepare(into, this.#in.control.byteLength, true);
    const length = libc.recvmsg(this.fd.number, header, flags);
    if (length === -errnoNumber.EAGAIN! && options.wait === false) return undefined;
    if (length === -errnoNumber.EINTR!) return this.receive(into, options);
    if (length < 0) this.#fail("recvmsg", -length);
    const fds = this.#takeFds();
    if ((this.#in.flags & MSG_CTRUNC) !== 0) {
      for (const fd of fds) fd.close();
      throw new ProtocolError(`${this.fd.target}: the peer passed more descriptors than a message may carry`);
    }
    return { length, fds };
  }

  #takeFds(): OwnedFd[] {
    const fds: OwnedFd[] = [];
    const total = this.#in.controlLength;
    const view = this.#in.controlView;
    for (let at = 0; at + CMSG_HEADER <= total;) {
      const length = Number(view.getBigUint64(at, true));
      if (length < CMSG_HEADER || at + length > total) break;
      if (view.getInt32(at + 8, true) === SOL_SOCKET && view.getInt32(at + 12, true) === SCM_RIGHTS) {
        for (let data = at + CMSG_HEADER; data + 4 <= at + length; data += 4) {
          fds.push(new OwnedFd(view.getInt32(data, true), `descriptor from ${this.fd.target}`));
        }
      }
      at += (length + 7) & ~7;
    }
    return fds;
  }

  #fail(call: string, number: number): never {
    const target = this.fd.target;
    if (number === errnoNumber.EAGAIN) {
      throw new TimeoutError(`${target}: the peer did not answer in time`, {
        hint: "is the serving process stopped or busy?",
      });
    }
    if (number === errnoNumber.EPIPE || number === errnoNumber.ECONNRESET) {
      throw new PeerGoneError(`${target}: the peer closed the connection`);
    }
    throw new SyscallError(call, target, number);
  }

  /** Tells the peer that no more comes, and wakes whoever blocks in `receive`. */
  shutdown(): void {
    const BOTH = 2;
    if (!this.fd.closed) libc.shutdown(this.fd.number, BOTH);
  }

  /** Releases what it holds. May be called again. */
  close(): void {
    this.fd.close();
  }

  /** As `close`. */
  [Symbol.dispose](): void {
    this.close();
  }
}

/**
 * A descriptor that is given up to turn a client away when there are no others: left in the queue, the client would wait for nothing, and
 * a loop would find the listener ready for ever. One for all listeners of the process; -1 without listeners.
 */
let spare = -1;
const listening = new Set<string>();

function keepSpare(): void {
  const EFD_CLOEXEC = 0o2000000;
  if (spare < 0) spare = libc.eventfd(0, EFD_CLOEXEC);
}

function dropSpare(): void {
  if (spare >= 0) libc.close(spare);
  spare = -1;
}

/** A listening socket. */
export class UnixListener implements Disposable {
  /** File of the socket. */
  readonly path: string;
  /** The descriptor. */
  readonly fd: OwnedFd;

  private constructor(path: string, fd: OwnedFd) {
    this.path = path;
    this.fd = fd;
  }

  /** Binds `path` and listens; a stale socket file that nobody answers on is replaced. @throws SyscallError, UsageError */
  static listen(path: string, backlog = 16): UnixListener {
    const address = socketAddress(path);
    const flags = SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK;
    using opened = new DisposableStack();
    const fd = opened.use(new OwnedFd(check(libc.socket(AF_UNIX, flags, 0), "socket", path), path));
    let bound = libc.bind(fd.number, address, address.byteLength);
    if (bound === -errnoNumber.EADDRINUSE! && isStale(path)) {
      libc.unlink(cString(path));
      bound = libc.bind(fd.number, address, address.byteLength);
    }
    check(bound, "bind", path);
    check(libc.listen(fd.number, backlog), "listen", path);
    listening.add(path);
    keepSpare();
    opened.move();
    return new UnixListener(path, fd);
  }

  /** Whether somebody of this very thread listens there: who blocks the thread for an answer waits for himself. */
  static isServedHere(path: string): boolean {
    return listening.has(path);
  }

  /**
   * Takes a waiting connection, or undefined when there is none.
   * @throws SyscallError; when it is EMFILE or ENFILE, no descriptors are left and the client has been let go
   */
  accept(): UnixSocket | undefined {
    const number = libc.accept4(this.fd.number, null, null, SOCK_CLOEXEC);
    if (number < 0) {
      const error = -number;
      if (error === errnoNumber.EAGAIN || error === errnoNumber.ECONNABORTED) return undefined;
      if ((error === errnoNumber.EMFILE || error === errnoNumber.ENFILE) && spare >= 0) {
        dropSpare();
        const turnedAway = libc.accept4(this.fd.number, null, null, SOCK_CLOEXEC);
        if (turnedAway >= 0) libc.close(turnedAway);
        keepSpare();
        // The kernel looks for a descriptor before it looks for a client.
        if (turnedAway < 0) return undefined;
      }
      throw new SyscallError("accept4", this.path, error);
    }
    return new UnixSocket(new OwnedFd(number, this.path));
  }

  /** Closes and removes the socket file. */
  close(): void {
    if (this.fd.closed) return;
    libc.unlink(cString(this.path));
    this.fd.close();
    listening.delete(this.path);
    if (listening.size === 0) dropSpare();
  }

  /** As `close`. */
  [Symbol.dispose](): void {
    this.close();
  }
}

function isStale(path: string): boolean {
  try {
    UnixSocket.connect(path).close();
    return false;
  } catch (error) {
    return error instanceof SyscallError && error.errno === errnoNumber.ECONNREFUSED;
  }
}
