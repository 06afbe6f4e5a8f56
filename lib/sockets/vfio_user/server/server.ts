/**
 * A vfio-user server for one function.
 *
 * @module
 */
import { requireType, typedErrors } from "../../../errors/doors.ts";
import { errnoNumber, pageSizeBytes, UnixListener, type UnixSocket } from "../../../../ffi/mod.ts";
import { AnswerBudget } from "../../answer_budget.ts";
import { OneClientServer, PATIENCE, type ServerWatcher, settingOf } from "../../one_client_server.ts";
import { DmaTable } from "../../dma_table.ts";
import { COMMAND, HEADER_BYTES, LIMIT, MESSAGE_FLAG, messageHeader } from "../protocol.ts";
import type { ServedDevice } from "./served_device.ts";
import { type ConnectionLimits, ServerConnection } from "./connection.ts";
import type { UnsealedFiles } from "../../passed_memory.ts";

const LONGEST_MS = 3_600_000;
/** Default, least and most of each setting that is a number. */
const SETTINGS = {
  maxDataTransferBytes: [LIMIT.dataTransferBytes, 8, LIMIT.largestDataTransferBytes],
  maxMessageFds: [LIMIT.messageFds, 1, LIMIT.messageFds],
  maxDmaMaps: [32768, 1, LIMIT.dmaMaps],
  dmaTimeoutMs: [500, 1, LONGEST_MS],
  ...PATIENCE,
} as const;

/** Settings of a server, all optional. */
export interface VfioUserServerOptions {
  /** Data bytes in one transfer message; default 1 MiB, least 8. */
  readonly maxDataTransferBytes?: number;
  /** Descriptors in one message; default and most 64. */
  readonly maxMessageFds?: number;
  /** DMA mappings at a time; default 32768 (the kernel gives a process some 65,000 mappings in all). */
  readonly maxDmaMaps?: number;
  /** What becomes of files of the client that it could truncate: see `UnsealedFiles`. Default `copy`. */
  readonly unsealed?: UnsealedFiles;
  /**
   * How long this thread waits for answers to DMA_READ and DMA_WRITE, in milliseconds; default 500: for one, and for all of them together beyond
   * half of the time (see `exhausted`). A client that does not answer one gets no more of them.
   */
  readonly dmaTimeoutMs?: number;
  /** The same for all servers of a thread together, instead of `dmaTimeoutMs`. */
  readonly answers?: AnswerBudget;
  /**
   * How long a reply may wait for a client that does not read any of it, in milliseconds; default 10000. Then the client is let go. Nobody
   * else waits meanwhile.
   */
  readonly sendTimeoutMs?: number;
  /**
   * How long a client may take for its VERSION, and for each message from its first byte to its last, in milliseconds; default 10000. Then it
   * is let go, so that the next one gets the function.
   */
  readonly messageTimeoutMs?: number;
  /** Told of connections that come and go. */
  readonly watcher?: ServerWatcher;
}

/** Serves one device on one socket. */
export class VfioUserServer extends OneClientServer {
  static {
    typedErrors(this);
  }

  /** What is served. */
  readonly device: ServedDevice;
  /** The client's memory; empty while there is no client. */
  readonly dma: DmaTable;

  /** Takes the listener over. @throws UsageError for options that cannot be */
  constructor(device: ServedDevice, listener: UnixListener, options: VfioUserServerOptions = {}) {
    requireType(
      device,
      "object",
      "new VfioUserServer: device",
      "name",
      "readRegion",
      "writeRegion",
      "region",
    );
    requireType(listener, "object", "new VfioUserServer: listener", "fd", "accept", "close");
    const { watcher } = options;
    const limits: ConnectionLimits = {
      maxDataTransferBytes: settingOf(SETTINGS, options, "maxDataTransferBytes"),
      maxMessageFds: settingOf(SETTINGS, options, "maxMessageFds"),
      maxDmaMaps: settingOf(SETTINGS, options, "maxDmaMaps"),
      pageBytes: pageSizeBytes,
      unsealed: options.unsealed ?? "copy",
      refused: (reason) => watcher?.refused?.(reason),
      answers: options.answers ?? new AnswerBudget(settingOf(SETTINGS, options, "dmaTimeoutMs")),
      sendTimeoutMs: settingOf(SETTINGS, options, "sendTimeoutMs"),
      messageTimeoutMs: settingOf(SETTINGS, options, "messageTimeoutMs"),
    };
    const dma = new DmaTable();
    super(
      listener,
      device.name,
      { serve: (socket) => new ServerConnection(socket, device, dma, limits), refuse },
      watcher,
    );
    this.device = device;
    this.dma = dma;
    dma.rests = () => this.exhausted;
  }

  /** Listens on `path`; a stale socket file is replaced. @throws SyscallError, UsageError */
  static listen(path: string, device: ServedDevice, options: VfioUserServerOptions = {}): VfioUserServer {
    using opened = new DisposableStack();
    const server = new VfioUserServer(device, opened.use(UnixListener.listen(path)), options);
    opened.move();
    return server;
  }
}

/** Tells a second client that the function is taken. Its VERSION need not be there yet; then its id is unknown. */
function refuse(socket: UnixSocket): void {
  const request = new Uint8Array(new ArrayBuffer(HEADER_BYTES));
  const received = socket.receive(request, { wait: false });
  for (const fd of received?.fds ?? []) fd.close();
  const { messageId } = messageHeader.decode(request);
  // A socket that nothing was sent on has room for a header.
  socket.sendSome(messageHeader.encode({
    messageId,
    command: COMMAND.version,
    messageBytes: HEADER_BYTES,
    flags: MESSAGE_FLAG.typeReply | MESSAGE_FLAG.error,
    errorNumber: errnoNumber.EBUSY!,
  }));
}
