/**
 * A communication domain of virtio-ism: devices, the regions that they share, and the rules of sharing (reference 5.5, 5.7).
 *
 * @module
 */
import { RingsideError, UsageError } from "../../../errors/mod.ts";
import type { DeviceCore } from "../../device_model.ts";
import { ISM_ACK, ISM_PERM } from "../../../virtio/spec/ism.ts";
import { RegionMemory } from "./memory.ts";
import { ALLOCATOR_PERMISSIONS, type Attachment, IsmMember, IsmRegion } from "./region.ts";

/** What all devices of a domain have in common. */
export interface IsmDomainSettings {
  /** Bytes of a chunk: a power of two, at least 4096. */
  readonly chunkSizeBytes: number;
  /** Bytes of memory for regions of devices that supply it themselves (DEV_MEM). */
  readonly memoryBytes: number;
}

/** An answer without more than its `ack`. */
export interface IsmRefusal {
  /** `ISM_ACK` value. */
  readonly ack: number;
  /** What is wrong, when a driver should have known better; for the list of violations. */
  readonly problem?: string;
  /** E2BIG: chunks that the reply must have room for. */
  readonly num?: number;
}

/** A driver's buffer for a new region. */
export interface LentBuffer {
  /** Its IOVA. */
  readonly buffer: bigint;
  /** Its memory as the region's. @throws UsageError, SyscallError */
  share(): RegionMemory;
}

/** BUFFER_FREE events that may wait for a driver before it gets no more regions. */
const BUFFER_FREES_MAX = 4096;
/** Entries of permissions that a region may have for devices that are not there. */
const DEDICATED_MAX = 4096;
const RIGHTS = ISM_PERM.READ | ISM_PERM.WRITE;
const PERMISSIONS = ISM_PERM.READ | ISM_PERM.WRITE | ISM_PERM.ATTACH | ISM_PERM.MANAGE;

/** A domain. */
export class IsmDomain {
  /** Its name on this host. */
  readonly name: string;
  /** Its id: a v4 UUID, in the order in which it is written (version in byte 6). */
  readonly cdid: Uint8Array<ArrayBuffer> = randomUuid();
  /** What its devices have in common. */
  readonly settings: IsmDomainSettings;
  /** Its devices, by id. */
  readonly members: Map<bigint, IsmMember> = new Map();
  /** Its regions, by token. */
  readonly regions: Map<bigint, IsmRegion> = new Map();
  #memoryUsed = 0;
  #nextDevid = 1n;

  /** Without devices. */
  constructor(name: string, settings: IsmDomainSettings) {
    this.name = name;
    this.settings = settings;
  }

  /** Bytes of the domain's memory that regions have now. */
  get memoryUsedBytes(): number {
    return this.#memoryUsed;
  }

  /** A new device (N-5.1). @param stride of its doorbells, in chunks */
  join(core: DeviceCore, chunks: number, stride: number): IsmMember {
    const member = new IsmMember(core, this.#nextDevid++, chunks, stride);
    this.members.set(member.devid, member);
    return member;
  }

  /** The device is gone for good. */
  leave(member: IsmMember): void {
    this.reset(member);
    this.members.delete(member.devid);
    // Ids are not used again, so nobody could ever use these.
    for (const region of this.regions.values()) {
      if (region.allocator !== member.devid) region.dedicated.delete(member.devid);
    }
  }

  /** The device was reset, or its driver died: its references go, its peers hear of it, it does not. */
  reset(member: IsmMember): void {
    member.life++;
    for (const attachment of [...member.attachments.values()]) this.#detach(attachment);
    member.events.clear();
  }

  // ---- commands ----

  /**
   * ALLOC_REGION (N-5.4, N-5.5, A-5.5, A-5.19).
   * @param lent undefined: the device supplies the memory @param room chunk offsets that the reply has room for
   */
  allocate(
    member: IsmMember,
    sizeBytes: bigint,
    lent: LentBuffer | undefined,
    room: number,
  ): Attachment | IsmRefusal {
    if (sizeBytes === 0n) return refuse("ERR", "a region of 0 bytes (A-5.19)");
    const { chunkSizeBytes, memoryBytes } = this.settings;
    const chunks = member.chunks.find(this.#chunksOf(sizeBytes));
    if (chunks === undefined) return refuse("ENOSPC");
    const deviceBytes = lent === undefined ? chunks.length * chunkSizeBytes : 0;
    if (this.#memoryUsed + deviceBytes > memoryBytes) return refuse("ENOMEM");
    if (lent !== undefined && member.events.bufferFrees >= BUFFER_FREES_MAX) {
      return refuse("ENOMEM", `${BUFFER_FREES_MAX} events BUFFER_FREE wait for event buffers`);
    }
    if (room < chunks.length) return { ack: ISM_ACK.E2BIG, num: chunks.length };
    let memory: RegionMemory;
    try {
      memory = lent?.share() ?? RegionMemory.create(`ism ${this.name}`, deviceBytes);
    } catch (error) {
      if (!(error instanceof RingsideError)) throw error;
      return refuse("ENOMEM", lent === undefined ? error.message : `the buffer: ${error.message}`);
    }
    this.#memoryUsed += deviceBytes;
    const region = new IsmRegion(this.#newToken(), sizeBytes, memory, member, lent?.buffer);
    this.regions.set(region.token, region);
    return this.#refer(region, member, chunks, RIGHTS);
  }

  /** QUERY_INFO (N-5.7): any device may ask. */
  query(member: IsmMember, token: bigint): { size: bigint; permissions: number } | IsmRefusal {
    const region = this.regions.get(token);
    if (region === undefined) return refuse("ENOENT");
    return { size: region.sizeBytes, permissions: region.permissionsOf(member.devid) };
  }

  /**
   * ATTACH_REGION, its checks in the order of.
   * @param checkBuffer what is wrong with the driver's buffer for a region of this size; undefined: nothing, or DEV_MEM
   */
  attach(
    member: IsmMember,
    token: bigint,
    wanted: bigint,
    room: number,
    checkBuffer: (sizeBytes: bigint) => string | undefined,
  ): Attachment | IsmRefusal {
    const region = this.regions.get(token);
    if (region === undefined) return refuse("ENOENT");
    if (member.attachments.has(token)) return refuse("ERR", "the region is attached already (A-5.17)");
    if ((wanted & ~BigInt(RIGHTS)) !== 0n) {
      return refuse("ERR", `rw_perm 0x${wanted.toString(16)} has more than READ and WRITE (A-5.24)`);
    }
    const rights = Number(wanted);
    const may = region.permissionsOf(member.devid);
    if ((may & ISM_PERM.ATTACH) === 0) return refuse("PERM_EATTACH");
    if ((rights & ~may & ISM_PERM.READ) !== 0) return refuse("PERM_EREAD");
    if ((rights & ~may & ISM_PERM.WRITE) !== 0) return refuse("PERM_EWRITE");
    const chunks = member.chunks.find(this.#chunksOf(region.sizeBytes));
    if (chunks === undefined) return refuse("ENOSPC");
    if (room < chunks.length) return { ack: ISM_ACK.E2BIG, num: chunks.length };
    const problem = checkBuffer(region.sizeBytes);
    if (problem !== undefined) return refuse("ERR", problem);
    const attachment = this.#refer(region, member, chunks, rights);
    this.#tellPeers(attachment, "attach");
    return attachment;
  }

  /** DETACH_REGION (N-5.10). */
  detach(member: IsmMember, token: bigint): IsmRefusal | undefined {
    const attachment = member.attachments.get(token);
    if (attachment === undefined) return refuse("ENOENT");
    this.#detach(attachment);
    return undefined;
  }

  /** GRANT_SET_DEFAULT (N-5.12, A-5.2, A-5.10). */
  grantDefault(member: IsmMember, token: bigint, permissions: bigint): IsmRefusal | undefined {
    const region = this.#managed(member, token);
    if (!(region instanceof IsmRegion)) return region;
    if ((permissions & ~BigInt(PERMISSIONS)) !== 0n) {
      return refuse("ERR", `default permissions 0x${permissions.toString(16)}`);
    }
    region.defaultPermissions = Number(permissions);
    return undefined;
  }

  /** GRANT_SET_FOR_DEVICE (N-5.12, A-5.2, A-5.10, A-5.23). */
  grantDevice(
    member: IsmMember,
    token: bigint,
    permissions: bigint,
    peer: bigint,
  ): IsmRefusal | undefined {
    const region = this.#managed(member, token);
    if (!(region instanceof IsmRegion)) return region;
    const clean = (permissions & BigInt(ISM_PERM.CLEAN_DEFAULT)) !== 0n;
    const granted = permissions & ~BigInt(ISM_PERM.CLEAN_DEFAULT);
    if ((granted & ~BigInt(PERMISSIONS)) !== 0n) {
      return refuse("ERR", `permissions 0x${permissions.toString(16)}`);
    }
    if (peer === 0n) return refuse("ERR", "peer_devid 0, which no device has (N-5.1)");
    // a device may come later.
    const room = region.dedicated.size < DEDICATED_MAX || region.dedicated.has(peer);
    if (!room && !this.members.has(peer)) {
      return refuse("ERR", `${DEDICATED_MAX} devices have permissions of their own`);
    }
    // "The device that allocated the region MUST have" all four.
    if (peer === region.allocator && Number(granted) !== ALLOCATOR_PERMISSIONS) {
      return refuse("ERR", "the permissions of the device that allocated the region are fixed");
    }
    region.dedicated.set(peer, Number(granted));
    if (clean) region.defaultPermissions = 0;
    return undefined;
  }

  /** EVENT_VECTOR_SET (N-5.13, A-5.11). @param vector undefined: back to the event queue; checked by the caller */
  bindVector(member: IsmMember, token: bigint, vector: number | undefined): IsmRefusal | undefined {
    const attachment = member.attachments.get(token);
    if (attachment === undefined) return refuse("ENOENT");
    attachment.vector = vector;
    // "The device MUST NOT use eventq to send the update event of this ism region."
    if (vector !== undefined) member.events.forget(attachment.offset, "update");
    return undefined;
  }

  // ---- inside ----

  #chunksOf(sizeBytes: bigint): number {
    const chunk = BigInt(this.settings.chunkSizeBytes);
    return Number((sizeBytes + chunk - 1n) / chunk);
  }

  #managed(member: IsmMember, token: bigint): IsmRegion | IsmRefusal {
    const region = member.attachments.get(token)?.region;
    if (region === undefined) return refuse("ENOENT");
    if ((region.permissionsOf(member.devid) & ISM_PERM.MANAGE) !== 0) return region;
    return refuse("ERR", "permissions can be changed by devices with MANAGE only (A-5.10)");
  }

  #refer(
    region: IsmRegion,
    member: IsmMember,
    chunks: Uint32Array<ArrayBuffer>,
    rights: number,
  ): Attachment {
    const offset = BigInt(chunks[0]!) * BigInt(this.settings.chunkSizeBytes);
    const attachment: Attachment = { region, member, chunks, offset, rights, vector: undefined };
    member.chunks.take(chunks, attachment);
    member.attachments.set(region.token, attachment);
    region.attachments.set(member, attachment);
    return attachment;
  }

  #detach(attachment: Attachment): void {
    const { region, member, chunks } = attachment;
    member.chunks.release(chunks);
    member.attachments.delete(region.token);
    region.attachments.delete(member);
    // The place may be another region's next.
    member.events.forget(attachment.offset);
    this.#tellPeers(attachment, "detach");
    if (region.attachments.size > 0) return;
    this.regions.delete(region.token);
    const { memory, lender } = region;
    if (!memory.borrowed) this.#memoryUsed -= memory.sizeBytes;
    memory.close();
    if (lender !== undefined && lender.member.life === lender.life) {
      lender.member.tell({ type: "buffer-free", buffer: lender.buffer });
    }
  }

  #tellPeers({ region, member }: Attachment, type: "attach" | "detach"): void {
    for (const [peer, { offset }] of region.attachments) {
      if (peer === member) continue;
      peer.tell({ type, offset, devid: member.devid, peers: BigInt(region.attachments.size - 1) });
    }
  }

  #newToken(): bigint {
    const words = new BigUint64Array(1);
    do crypto.getRandomValues(words); while (words[0] === 0n || this.regions.has(words[0]!));
    return words[0]!;
  }
}

/** The domains of a machine, by name. */
export class IsmDomains {
  readonly #domains = new Map<string, IsmDomain>();

  /** Those that have devices. */
  get list(): readonly IsmDomain[] {
    return [...this.#domains.values()].filter((one) => one.members.size > 0);
  }

  /** The domain of that name, new when nobody is in it. @throws UsageError when its devices have other settings */
  domain(name: string, settings: IsmDomainSettings): IsmDomain {
    const found = this.#domains.get(name);
    if (found === undefined || found.members.size === 0) {
      const made = new IsmDomain(name, settings);
      this.#domains.set(name, made);
      return made;
    }
    const { chunkSizeBytes, memoryBytes } = found.settings;
    if (chunkSizeBytes !== settings.chunkSizeBytes || memoryBytes !== settings.memoryBytes) {
      throw new UsageError(
        `virtio-ism domain ${name} has chunks of ${chunkSizeBytes} bytes and ${memoryBytes} bytes of memory, ` +
          `another of its functions says ${settings.chunkSizeBytes} and ${settings.memoryBytes}`,
        { hint: "give all functions of a domain the same chunkSize and memory" },
      );
    }
    return found;
  }
}

function refuse(name: keyof typeof ISM_ACK, problem?: string): IsmRefusal {
  return problem === undefined ? { ack: ISM_ACK[name] } : { ack: ISM_ACK[name], problem };
}

function randomUuid(): Uint8Array<ArrayBuffer> {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6]! & 0x0f) | 0x40;
  bytes[8] = (bytes[8]! & 0x3f) | 0x80;
  return bytes;
}
