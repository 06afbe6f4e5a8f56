/**
 * Regions of a communication domain, who may do what with them, and who refers to them (reference 5).
 *
 * @module
 */
import { ISM_DEFAULT_PERMISSIONS, ISM_PERM } from "../../../virtio/spec/ism.ts";
import type { DeviceCore } from "../../device_model.ts";
import { ChunkMap } from "./chunks.ts";
import { EventBacklog, type IsmEvent } from "./events.ts";
import type { RegionMemory } from "./memory.ts";

/** What the device that allocated a region may always do with it. */
export const ALLOCATOR_PERMISSIONS: number = ISM_DEFAULT_PERMISSIONS | ISM_PERM.MANAGE;

/** A device in a domain. */
export class IsmMember {
  /** The function, by which its driver is reached. */
  readonly core: DeviceCore;
  /** Its id: not 0, no other device's, the same for as long as the function is there. */
  readonly devid: bigint;
  /** Its area. */
  readonly chunks: ChunkMap<Attachment>;
  /** Regions that it refers to, by token. */
  readonly attachments: Map<bigint, Attachment> = new Map();
  /** Events for its driver. */
  readonly events: EventBacklog = new EventBacklog();
  /** Counts resets: what an earlier driver was promised is not the next one's. */
  life = 0;

  /** A device without regions. @param stride of its doorbells, in chunks */
  constructor(core: DeviceCore, devid: bigint, chunks: number, stride: number) {
    this.core = core;
    this.devid = devid;
    this.chunks = new ChunkMap(chunks, stride);
  }

  /** An event for its driver. */
  tell(event: IsmEvent): void {
    this.events.add(event);
    this.core.wake?.();
  }
}

/** A device's reference to a region. */
export interface Attachment {
  /** The region. */
  readonly region: IsmRegion;
  /** The device. */
  readonly member: IsmMember;
  /** Chunks of the device's area that stand for the region, in its order. */
  readonly chunks: Uint32Array<ArrayBuffer>;
  /** Bytes from the start of the area to the first of them: how events name the region. */
  readonly offset: bigint;
  /** READ and WRITE, as asked for. */
  readonly rights: number;
  /** MSI-X vector of updates; undefined: they go by the event queue. */
  vector: number | undefined;
}

/** A region. */
export class IsmRegion {
  /** Names it in its domain. */
  readonly token: bigint;
  /** As asked for. */
  readonly sizeBytes: bigint;
  /** Its memory; the region's. */
  readonly memory: RegionMemory;
  /** Id of the device that allocated it. */
  readonly allocator: bigint;
  /** Whom to tell that a buffer is free again when the last reference goes; undefined with DEV_MEM. */
  readonly lender: { readonly member: IsmMember; readonly life: number; readonly buffer: bigint } | undefined;
  /** What devices without an entry of their own may do. */
  defaultPermissions: number = ISM_DEFAULT_PERMISSIONS;
  /** Entries of devices, by id: they stand in place of the default. */
  readonly dedicated: Map<bigint, number> = new Map();
  /** References, by device. */
  readonly attachments: Map<IsmMember, Attachment> = new Map();

  /** A region that nobody refers to yet. */
  constructor(
    token: bigint,
    sizeBytes: bigint,
    memory: RegionMemory,
    allocator: IsmMember,
    buffer: bigint | undefined,
  ) {
    this.token = token;
    this.sizeBytes = sizeBytes;
    this.memory = memory;
    this.allocator = allocator.devid;
    this.lender = buffer === undefined ? undefined : { member: allocator, life: allocator.life, buffer };
    this.dedicated.set(allocator.devid, ALLOCATOR_PERMISSIONS);
  }

  /** What a device may do. */
  permissionsOf(devid: bigint): number {
    return this.dedicated.get(devid) ?? this.defaultPermissions;
  }

  /** It was updated, says one that refers to it: the others hear of it. */
  update(from: Attachment): void {
    for (const [member, attachment] of this.attachments) {
      if (attachment === from) continue;
      if (attachment.vector !== undefined) member.core.raiseVector(attachment.vector);
      else member.tell({ type: "update", offset: attachment.offset, devid: from.member.devid });
    }
  }
}
