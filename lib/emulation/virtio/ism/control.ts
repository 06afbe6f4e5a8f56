/**
 * Control commands of a virtio-ism device: frames, and what they do in the domain (reference 5.3).
 *
 * @module
 */
import { pageSizeBytes } from "../../../../ffi/mod.ts";
import {
  ISM_ACK,
  ISM_CHUNKS_REPLY,
  ISM_COMMAND,
  ISM_COMMAND_DATA,
  ISM_CTRL,
  ISM_FEATURE,
  ISM_QUERY_REPLY,
  type IsmCommandName,
} from "../../../virtio/spec/ism.ts";
import { NO_VECTOR } from "../../../virtio/spec/pci.ts";
import type { Chain } from "../queue/chain.ts";
import type { IsmLie } from "../lies/ism.ts";
import type { Occasions } from "../lies/lie.ts";
import type { IsmDomain, IsmRefusal } from "./domain.ts";
import { RegionMemory } from "./memory.ts";
import type { Attachment, IsmMember } from "./region.ts";

const HEADER_BYTES = ISM_CTRL.sizeBytes;
const BUFFER_BYTES = 8;
const ACK_BYTES = 1;
const CHUNK_BYTES = 8;
const BAD_ACK = 77;

/** `ack`, and what follows it. */
interface Answer {
  readonly ack: number;
  readonly reply?: Uint8Array;
  readonly problem?: string;
}

const DONE: Answer = { ack: ISM_ACK.OK };

/** Carries out the commands of one function. */
export class IsmControl {
  readonly #domain: IsmDomain;
  readonly #member: IsmMember;
  readonly #lies: Occasions<IsmLie> | undefined;

  /** @param member its place in the domain @param lies how it lies, if it does */
  constructor(domain: IsmDomain, member: IsmMember, lies: Occasions<IsmLie> | undefined) {
    this.#domain = domain;
    this.#member = member;
    this.#lies = lies;
  }

  /**
   * Carries out the command in a chain and writes its answer.
   * @returns the used length; 0 when there is not even room for `ack`
   */
  run(chain: Chain): number {
    const { core } = this.#member;
    if (chain.writableBytes === 0) {
      core.report("5.3", "a control command without room for ack", 0);
      return 0;
    }
    const header = new Uint8Array(HEADER_BYTES);
    const name = chain.peek(header) < HEADER_BYTES ? undefined : commandOf(header);
    const answer = name === undefined
      ? { ack: ISM_ACK.ERR, problem: `there is no command ${header[0]}.${header[1]}` }
      : this.#command(name, chain);
    if (answer.problem !== undefined) core.report("5.3", `${name ?? "command"}: ${answer.problem}`, 0);
    chain.writeByte(0, this.#lies?.take("ism-bad-ack") ? BAD_ACK : answer.ack);
    const reply = answer.reply?.subarray(0, chain.writableBytes - ACK_BYTES) ?? new Uint8Array();
    chain.write(reply, ACK_BYTES);
    return ACK_BYTES + reply.length;
  }

  #command(name: IsmCommandName, chain: Chain): Answer {
    const [domain, member] = [this.#domain, this.#member];
    const fixedBytes = ISM_COMMAND_DATA[name].sizeBytes;
    const deviceMemory = (member.core.negotiatedFeatures & ISM_FEATURE.DEV_MEM) !== 0n;
    const withBuffer = !deviceMemory && (name === "ALLOC_REGION" || name === "ATTACH_REGION");
    const bytes = fixedBytes + (withBuffer ? BUFFER_BYTES : 0);
    if (chain.readableBytes !== HEADER_BYTES + bytes) {
      const rule = withBuffer ? " (without DEV_MEM there is a buffer: N-5.6)" : "";
      return {
        ack: ISM_ACK.ERR,
        problem: `${chain.readableBytes - HEADER_BYTES} bytes of data instead of ${bytes}${rule}`,
      };
    }
    const data = new Uint8Array(bytes);
    chain.peek(data, HEADER_BYTES);
    const buffer = withBuffer ? new DataView(data.buffer).getBigUint64(fixedBytes, true) : undefined;
    switch (name) {
      case "ALLOC_REGION": {
        const { size } = ISM_COMMAND_DATA[name].decode(data);
        const lent = buffer === undefined
          ? undefined
          : { buffer, share: () => this.#shareBuffer(buffer, Number(size)) };
        const done = domain.allocate(member, size, lent, roomOf(chain));
        return "region" in done ? this.#chunks(done, done.region.token) : refusal(done, chain, 0n);
      }
      case "QUERY_INFO": {
        const found = domain.query(member, ISM_COMMAND_DATA[name].decode(data).token);
        if ("ack" in found) return found;
        return {
          ack: ISM_ACK.OK,
          reply: ISM_QUERY_REPLY.encode({ size: found.size, permissions: BigInt(found.permissions) }),
        };
      }
      case "ATTACH_REGION": {
        const { token, rw_perm } = ISM_COMMAND_DATA[name].decode(data);
        const check = (size: bigint) => buffer === undefined ? undefined : this.#checkBuffer(buffer, size);
        const done = domain.attach(member, token, rw_perm, roomOf(chain), check);
        if (!("region" in done)) return refusal(done, chain, domain.regions.get(token)?.sizeBytes);
        const capacity = BigInt(done.chunks.length * domain.settings.chunkSizeBytes);
        const size = this.#lies?.take("ism-size-lie") ? capacity + 1n : done.region.sizeBytes;
        return this.#chunks(done, size);
      }
      case "DETACH_REGION":
        return domain.detach(member, ISM_COMMAND_DATA[name].decode(data).token) ?? DONE;
      case "GRANT_SET_DEFAULT": {
        const { token, permissions } = ISM_COMMAND_DATA[name].decode(data);
        return domain.grantDefault(member, token, permissions) ?? DONE;
      }
      case "GRANT_SET_FOR_DEVICE": {
        const { token, permissions, peer_devid } = ISM_COMMAND_DATA[name].decode(data);
        return domain.grantDevice(member, token, permissions, peer_devid) ?? DONE;
      }
      case "EVENT_VECTOR_SET": {
        const { token, vector } = ISM_COMMAND_DATA[name].decode(data);
        return this.#bindVector(token, vector);
      }
    }
  }

  #bindVector(token: bigint, vector: bigint): Answer {
    const { core, attachments } = this.#member;
    const off = vector === BigInt(NO_VECTOR);
    // An unattached token comes first, as with GRANT.
    if (!off && vector >= BigInt(core.vectors) && attachments.has(token)) {
      return {
        ack: ISM_ACK.ERR,
        problem: core.vectors === 0
          ? `vector ${vector} while MSI-X is not in use (A-5.13)`
          : `vector ${vector} of ${core.vectors} (A-5.13)`,
      };
    }
    return this.#domain.bindVector(this.#member, token, off ? undefined : Number(vector)) ?? DONE;
  }

  /** The driver's buffer as a region's memory. @throws UsageError, SyscallError */
  #shareBuffer(buffer: bigint, sizeBytes: number): RegionMemory {
    const { region, offset } = this.#member.core.dma!.resolve(buffer, sizeBytes, true);
    return RegionMemory.share(region, offset, sizeBytes);
  }

  /** An attaching driver's buffer stands for the region in its memory; here it is looked at and kept until DETACH (N-5.11). */
  #checkBuffer(buffer: bigint, size: bigint): string | undefined {
    if (buffer % BigInt(pageSizeBytes) !== 0n) return "the buffer does not begin on a page (N-5.6)";
    try {
      this.#member.core.dma!.resolve(buffer, Number(size), true);
      return undefined;
    } catch (error) {
      return `the buffer: ${error instanceof Error ? error.message : error} (N-5.6)`;
    }
  }

  /** @param first token or size */
  #chunks({ chunks }: Attachment, first: bigint): Answer {
    const fixedBytes = ISM_CHUNKS_REPLY.sizeBytes;
    const chunkSize = BigInt(this.#domain.settings.chunkSizeBytes);
    const lies = this.#lies;
    const lied = lies?.take("ism-num-large") ? 1n << 32n : lies?.take("ism-num-zero") ? 0n : undefined;
    const num = lied ?? BigInt(chunks.length);
    const reply = ISM_CHUNKS_REPLY.encode({ first, num }, CHUNK_BYTES * chunks.length);
    const offsets = new BigUint64Array(reply.buffer, fixedBytes);
    chunks.forEach((chunk, i) => offsets[i] = BigInt(chunk) * chunkSize);
    if (lies?.take("ism-chunk-outside")) {
      offsets[chunks.length - 1] = BigInt(this.#member.chunks.count) * chunkSize;
    }
    if (chunks.length > 1 && lies?.take("ism-chunk-overlap")) offsets[1] = offsets[0]!;
    return { ack: ISM_ACK.OK, reply };
  }
}

function commandOf(header: Uint8Array): IsmCommandName | undefined {
  const { class: group, command: number } = ISM_CTRL.decode(header);
  for (const [name, [itsGroup, itsNumber]] of Object.entries(ISM_COMMAND)) {
    if (itsGroup === group && itsNumber === number) return name as IsmCommandName;
  }
  return undefined;
}

/** Chunk offsets that the reply has room for; −1 when not even its fixed part fits. */
function roomOf(chain: Chain): number {
  const left = chain.writableBytes - ACK_BYTES - ISM_CHUNKS_REPLY.sizeBytes;
  return left < 0 ? -1 : Math.floor(left / CHUNK_BYTES);
}

/** With E2BIG comes `num`, where the fixed part of the reply fits. */
function refusal({ ack, num, problem }: IsmRefusal, chain: Chain, first: bigint | undefined): Answer {
  if (num === undefined || roomOf(chain) < 0) return { ack, problem };
  return { ack, problem, reply: ISM_CHUNKS_REPLY.encode({ first, num: BigInt(num) }) };
}
