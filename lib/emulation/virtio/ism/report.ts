/**
 * Communication domains as plain data, to be looked at from outside the machine.
 *
 * @module
 */
import { ISM_PERM } from "../../../virtio/spec/ism.ts";
import type { IsmDomain } from "./domain.ts";

/** A device of a domain. */
export interface IsmFunctionState {
  /** PCI address. */
  readonly function: string;
  /** Its id, in decimal. */
  readonly devid: string;
  /** Chunks of its area. */
  readonly chunks: number;
  /** Chunks that stand for a region. */
  readonly chunksUsed: number;
  /** Events that its driver has no buffer for. */
  readonly eventsWaiting: number;
}

/** A device's reference to a region. */
export interface IsmAttachmentState {
  /** PCI address. */
  readonly function: string;
  /** Its id. */
  readonly devid: string;
  /** `r`, `w`, `rw` or nothing. */
  readonly rights: string;
  /** Runs of chunks of its area: first and number. */
  readonly chunks: readonly (readonly [first: number, count: number])[];
  /** MSI-X vector of updates; absent: by the event queue. */
  readonly vector?: number;
}

/** A region. Its token is a secret of whoever may attach, so only its first digits are shown. */
export interface IsmRegionState {
  /** First 4 of the token's 16 hexadecimal digits, and `…`. */
  readonly token: string;
  /** As asked for, in decimal bytes. */
  readonly size: string;
  /** Chunks that it takes. */
  readonly chunks: number;
  /** Id of the device that allocated it. */
  readonly allocator: string;
  /** The memory is that of the allocator's driver. */
  readonly driverMemory: boolean;
  /** What devices without an entry may do: some of `rwam` (read, write, attach, manage). */
  readonly defaultPermissions: string;
  /** Entries of devices. */
  readonly permissions: readonly { readonly devid: string; readonly permissions: string }[];
  /** References. */
  readonly attached: readonly IsmAttachmentState[];
}

/** A domain: one line of `/ringside/ism`. */
export interface IsmDomainState {
  /** Its name in the topology. */
  readonly domain: string;
  /** Its UUID. */
  readonly cdid: string;
  /** Bytes of a chunk. */
  readonly chunkSize: number;
  /** Bytes of memory for regions. */
  readonly memory: number;
  /** Of them in use. */
  readonly memoryUsed: number;
  /** Its devices. */
  readonly functions: readonly IsmFunctionState[];
  /** Its regions, oldest first. */
  readonly regions: readonly IsmRegionState[];
}

/** What a domain is now. */
export function reportDomain(domain: IsmDomain): IsmDomainState {
  const { settings } = domain;
  return {
    domain: domain.name,
    cdid: uuidText(domain.cdid),
    chunkSize: settings.chunkSizeBytes,
    memory: settings.memoryBytes,
    memoryUsed: domain.memoryUsedBytes,
    functions: [...domain.members.values()].map(({ core, devid, chunks, events }) => ({
      function: core.name,
      devid: `${devid}`,
      chunks: chunks.count,
      chunksUsed: chunks.count - chunks.free,
      eventsWaiting: events.size,
    })),
    regions: [...domain.regions.values()].map((region) => ({
      token: `${region.token.toString(16).padStart(16, "0").slice(0, 4)}…`,
      size: `${region.sizeBytes}`,
      chunks: [...region.attachments.values()][0]!.chunks.length,
      allocator: `${region.allocator}`,
      driverMemory: region.memory.borrowed,
      defaultPermissions: permissionText(region.defaultPermissions),
      permissions: [...region.dedicated].map(([devid, permissions]) => ({
        devid: `${devid}`,
        permissions: permissionText(permissions),
      })),
      attached: [...region.attachments.values()].map(({ member, rights, chunks, vector }) => ({
        function: member.core.name,
        devid: `${member.devid}`,
        rights: permissionText(rights),
        chunks: runsOf(chunks),
        ...(vector === undefined ? {} : { vector }),
      })),
    })),
  };
}

function uuidText(bytes: Uint8Array): string {
  const hex = bytes.toHex();
  return [8, 12, 16, 20, 32].map((end, i, ends) => hex.slice(ends[i - 1] ?? 0, end)).join("-");
}

function permissionText(bits: number): string {
  const letters = [[ISM_PERM.READ, "r"], [ISM_PERM.WRITE, "w"], [ISM_PERM.ATTACH, "a"], [
    ISM_PERM.MANAGE,
    "m",
  ]] as const;
  return letters.filter(([bit]) => (bits & bit) !== 0).map(([, letter]) => letter).join("");
}

function runsOf(chunks: Uint32Array): [number, number][] {
  const runs: [number, number][] = [];
  for (const chunk of chunks) {
    const last = runs.at(-1);
    if (last !== undefined && last[0] + last[1] === chunk) last[1]++;
    else runs.push([chunk, 1]);
  }
  return runs;
}
