/**
 * Control commands of a virtio-ism device: frames, and what they do in the domain (reference 5.3).
 *
 * @module
 */
import { pageSizeBytes } from "../../../../ffi/mod.ts";
import {
  ISM_ACK,
  ISM_ALLOC,
  ISM_ALLOC_REPLY,
  ISM_ATTACH,
  ISM_ATTACH_REPLY,
  ISM_COMMAND,
  ISM_CTRL,
  ISM_EVENT_VECTOR,
  ISM_GRANT_DEFAULT,
  ISM_GRANT_FOR_DEVICE,
  ISM_QUERY_REPLY,
  ISM_TOKEN,
  type IsmCommandName,
} from "../../../virtio/spec/ism.ts";
import { NO_VECTOR } from "../../../virtio/spec/pci.ts";
import type { DeviceCore } from "../../device_model.ts";
import type { Chain } from "../queue/chain.ts";
import type { IsmDomain, IsmMemorySource, IsmRefusal } from "./domain.ts";
import type { IsmLie } from "../lies/ism.ts";
import type { Occasions } from "../lies/lie.ts";
import { RegionMemory } from "./memory.ts";
import type { Attachment, IsmMember } from "./region.ts";

/** Whose commands they are. */
export interface IsmCommander {
  /** The core of the function. */
  readonly core: DeviceCore;
  /** Its domain. */
  readonly domain: IsmDomain;
  /** Its place in it. */
  readonly member: IsmMember;
  /** Whether it supplies memory itself. */
  readonly deviceMemory: boolean;
  /** How it lies, if it does. */
  readonly lies: Occasions<IsmLie> | undefined;
}

const HEADER_BYTES = ISM_CTRL.sizeBytes;
const BUFFER_BYTES = 8;
const ACK_BYTES = 1;
const CHUNK_BYTES = 8;
/** Of both replies with chunks. */
const REPLY_BYTES = 16;
const BAD_ACK = 77;

const DATA_BYTES: Readonly<Record<IsmCommandName, number>> = {
  ALLOC_REGION: ISM_ALLOC.sizeBytes,
  QUERY_INFO: ISM_TOKEN.sizeBytes,
  ATTACH_REGION: ISM_ATTACH.sizeBytes,
  DETACH_REGION: ISM_TOKEN.sizeBytes,
  GRANT_SET_DEFAULT: ISM_GRANT_DEFAULT.sizeBytes,
  GRANT_SET_FOR_DEVICE: ISM_GRANT_FOR_DEVICE.sizeBytes,
  EVENT_VECTOR_SET: ISM_EVENT_VECTOR.sizeBytes,
};

/** `ack`, and what follows it. */
interface Answer {
  readonly ack: number;
  readonly reply?: Uint8Array;
  readonly problem?: string;
}

/**
 * Carries out the command in a chain and writes its answer.
 * @returns the used length; 0 when there is not even room for `ack`
 */
export function runIsmCommand(chain: Chain, by: IsmCommander): number {
  if (chain.writableBytes === 0) {
    by.core.report("5.3", "a control command without room for ack", 0);
    return 0;
  }
  const header = new Uint8Array(HEADER_BYTES);
  const name = chain.peek(header) < HEADER_BYTES ? undefined : commandOf(header);
  const answer = name === undefined
    ? { ack: ISM_ACK.ERR, problem: `there is no command ${header[0]}.${header[1]}` }
    : command(name, chain, by);
  if (answer.problem !== undefined) by.core.report("5.3", `${name ?? "command"}: ${answer.problem}`, 0);
  chain.writeByte(0, by.lies?.take("ism-bad-ack") ? BAD_ACK : answer.ack);
  const reply = answer.reply?.subarray(0, chain.writableBytes - ACK_BYTES) ?? new Uint8Array();
  chain.write(reply, ACK_BYTES);
  return ACK_BYTES + reply.length;
}

function commandOf(header: Uint8Array): IsmCommandName | undefined {
  const { class: group, command: number } = ISM_CTRL.decode(header);
  for (const [name, [itsGroup, itsNumber]] of Object.entries(ISM_COMMAND)) {
    if (itsGroup === group && itsNumber === number) return name as IsmCommandName;
  }
  return undefined;
}

function command(name: IsmCommandName, chain: Chain, by: IsmCommander): Answer {
  const { domain, member, deviceMemory } = by;
  const withBuffer = !deviceMemory && (name === "ALLOC_REGION" || name === "ATTACH_REGION");
  const bytes = DATA_BYTES[name] + (withBuffer ? BUFFER_BYTES : 0);
  if (chain.readableBytes !== HEADER_BYTES + bytes) {
    const rule = withBuffer ? " (without DEV_MEM there is a buffer: N-5.6)" : "";
    return {
      ack: ISM_ACK.ERR,
      problem: `${chain.readableBytes - HEADER_BYTES} bytes of data instead of ${bytes}${rule}`,
    };
  }
  const data = new Uint8Array(bytes);
  chain.peek(data, HEADER_BYTES);
  const buffer = withBuffer ? new DataView(data.buffer).getBigUint64(DATA_BYTES[name], true) : 0n;
  switch (name) {
    case "ALLOC_REGION": {
      const { size } = ISM_ALLOC.decode(data);
      const source: IsmMemorySource = deviceMemory
        ? { kind: "device" }
        : { kind: "driver", buffer, share: () => shareBuffer(by, buffer, Number(size)) };
      const done = domain.allocate(member, size, source, roomOf(chain));
      return "region" in done
        ? chunksAnswer(by, done, ISM_ALLOC_REPLY.encode({ token: done.region.token }))
        : refusal(done, chain, (num) => ISM_ALLOC_REPLY.encode({ num }));
    }
    case "QUERY_INFO": {
      const found = domain.query(member, ISM_TOKEN.decode(data).token);
      if ("ack" in found) return found;
      return {
        ack: ISM_ACK.OK,
        reply: ISM_QUERY_REPLY.encode({ size: found.size, permissions: BigInt(found.permissions) }),
      };
    }
    case "ATTACH_REGION": {
      const { token, rw_perm } = ISM_ATTACH.decode(data);
      const check = (size: bigint) => withBuffer ? checkBuffer(by, buffer, size) : undefined;
      const done = domain.attach(member, token, rw_perm, roomOf(chain), check);
      if (!("region" in done)) {
        return refusal(
          done,
          chain,
          (num) => ISM_ATTACH_REPLY.encode({ size: domain.regions.get(token)!.sizeBytes, num }),
        );
      }
      const capacity = BigInt(done.chunks.length * domain.settings.chunkSizeBytes);
      const size = by.lies?.take("ism-size-lie") ? capacity + 1n : done.region.sizeBytes;
      return chunksAnswer(by, done, ISM_ATTACH_REPLY.encode({ size }));
    }
    case "DETACH_REGION":
      return domain.detach(member, ISM_TOKEN.decode(data).token) ?? { ack: ISM_ACK.OK };
    case "GRANT_SET_DEFAULT": {
      const { token, permissions } = ISM_GRANT_DEFAULT.decode(data);
      return domain.grantDefault(member, token, permissions) ?? { ack: ISM_ACK.OK };
    }
    case "GRANT_SET_FOR_DEVICE": {
      const { token, permissions, peer_devid } = ISM_GRANT_FOR_DEVICE.decode(data);
      return domain.grantDevice(member, token, permissions, peer_devid) ?? { ack: ISM_ACK.OK };
    }
    case "EVENT_VECTOR_SET": {
      const { token, vector } = ISM_EVENT_VECTOR.decode(data);
      return bindVector(by, token, vector);
    }
  }
}

function bindVector({ core, domain, member }: IsmCommander, token: bigint, vector: bigint): Answer {
  const off = vector === BigInt(NO_VECTOR);
  // An unattached token comes first, as with GRANT.
  if (!off && vector >= BigInt(core.vectors) && member.attachments.has(token)) {
    return {
      ack: ISM_ACK.ERR,
      problem: core.vectors === 0
        ? `vector ${vector} while MSI-X is not in use (A-5.13)`
        : `vector ${vector} of ${core.vectors} (A-5.13)`,
    };
  }
  return domain.bindVector(member, token, off ? undefined : Number(vector)) ?? { ack: ISM_ACK.OK };
}

/** The driver's buffer as a region's memory. @throws UsageError, SyscallError */
function shareBuffer({ core }: IsmCommander, buffer: bigint, sizeBytes: number): RegionMemory {
  const { region, offset } = core.dma!.resolve(buffer, sizeBytes, true);
  return RegionMemory.share(region, offset, sizeBytes);
}

/** An attaching driver's buffer stands for the region in its memory; here it is looked at and kept until DETACH (N-5.11). */
function checkBuffer({ core }: IsmCommander, buffer: bigint, size: bigint): string | undefined {
  if (buffer % BigInt(pageSizeBytes) !== 0n) return "the buffer does not begin on a page (N-5.6)";
  try {
    core.dma!.resolve(buffer, Number(size), true);
    return undefined;
  } catch (error) {
    return `the buffer: ${error instanceof Error ? error.message : error} (N-5.6)`;
  }
}

/** Chunk offsets that the reply has room for; −1 when not even its fixed part fits. */
function roomOf(chain: Chain): number {
  const left = chain.writableBytes - ACK_BYTES - REPLY_BYTES;
  return left < 0 ? -1 : Math.floor(left / CHUNK_BYTES);
}

/** With E2BIG comes `num`, where the fixed part of the reply fits. */
function refusal(
  { ack, num, problem }: IsmRefusal,
  chain: Chain,
  fixed: (num: bigint) => Uint8Array,
): Answer {
  const reply = num === undefined || roomOf(chain) < 0 ? {} : { reply: fixed(BigInt(num)) };
  return { ack, ...reply, problem };
}

/** `fixed` has everything but `num`, which both replies have at 8. */
function chunksAnswer(
  { domain, member, lies }: IsmCommander,
  { chunks }: Attachment,
  fixed: Uint8Array,
): Answer {
  const { chunkSizeBytes } = domain.settings;
  const reply = new Uint8Array(REPLY_BYTES + CHUNK_BYTES * chunks.length);
  const view = new DataView(reply.buffer);
  reply.set(fixed);
  const lied = lies?.take("ism-num-large") ? 1n << 32n : lies?.take("ism-num-zero") ? 0n : undefined;
  view.setBigUint64(8, lied ?? BigInt(chunks.length), true);
  chunks.forEach((chunk, i) => {
    view.setBigUint64(REPLY_BYTES + CHUNK_BYTES * i, BigInt(chunk) * BigInt(chunkSizeBytes), true);
  });
  const last = REPLY_BYTES + CHUNK_BYTES * (chunks.length - 1);
  if (lies?.take("ism-chunk-outside")) {
    view.setBigUint64(last, BigInt(member.chunks.count) * BigInt(chunkSizeBytes), true);
  }
  if (chunks.length > 1 && lies?.take("ism-chunk-overlap")) {
    view.setBigUint64(REPLY_BYTES + CHUNK_BYTES, view.getBigUint64(REPLY_BYTES, true), true);
  }
  return { ack: ISM_ACK.OK, reply };
}
