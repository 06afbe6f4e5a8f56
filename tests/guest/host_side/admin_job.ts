/**
 * In the guest: a PF with administration queues and two of its VFs, three functions that have nothing to do with each other as far as this kernel
 * knows. Started by `admin_in_guest_test.ts` with one `AdminTask` in JSON.
 */
import { AdminCommandError, type AdminMember, VirtioAdmin } from "../../../drivers/admin/virtio_admin.ts";
import {
  type LegacyVfIdentity,
  readLegacyVfIdentity,
} from "../../../drivers/net/virtio/legacy_vf_identity.ts";
import { mappingCount, openFdCount } from "../../../ffi/mod.ts";
import { LinuxHost } from "../../../lib/host/linux_host.ts";
import type { LegacyNotifyArea, LegacyRegisterAccess } from "../../../lib/virtio/mod.ts";
import { adminOpcodeName } from "../../../lib/virtio/spec/admin.ts";
import { LegacyAdminTransport } from "../../../lib/virtio/transport/pci_legacy_admin.ts";
import { PciModernTransport } from "../../../lib/virtio/transport/pci_modern.ts";
import { functions, ID, type KernelPath } from "../guest_host.ts";
import { bothWays, drive } from "../net_pair.ts";
import { kernelComplaints, report } from "./job_guest.ts";
import { type LspciOutput, runLspci } from "./lspci.ts";

/** What to do. */
export interface AdminTask {
  /** VFs that the PF has. */
  readonly vfs: number;
  readonly ways: readonly AdminWay[];
}

/** A way to drive them. */
export interface AdminWay {
  readonly path: KernelPath;
  /** Whose BAR the legacy VF is notified in; undefined: it is notified by command. */
  readonly notify?: "member" | "owner";
  readonly interrupts: "msix" | "none";
  /** Frames each way, polled and by interrupt. */
  readonly frames: number;
  readonly interruptFrames: number;
}

/** What was found before any was driven. */
export interface AdminStart {
  readonly lspci: LspciOutput;
}

/** What was found in one way. */
export interface AdminReport {
  readonly path: KernelPath;
  readonly self: readonly string[];
  readonly sriov: readonly string[];
  readonly capabilities: readonly number[];
  readonly limits: { readonly get: number; readonly set: number };
  readonly identities: readonly (Omit<LegacyVfIdentity, "features"> & { readonly features: string })[];
  readonly areas: readonly LegacyNotifyArea[];
  /** Types of the parts that the last VF has. */
  readonly parts: readonly number[];
  /** What a command for a VF that is not there ended with. */
  readonly refused: Record<string, unknown>;
  readonly place: LegacyNotifyArea | null;
  readonly macs: readonly string[];
  readonly interruptKinds: readonly string[];
  /** Legacy, modern. */
  readonly features: readonly (readonly string[])[];
  /** Frames that were received: by the modern VF, by the legacy VF. */
  readonly received: readonly number[];
  /** Times that the identities of all VFs were read while frames went to and fro. */
  readonly rounds: number;
  readonly interrupts: number;
  readonly sent: number;
  readonly failed: number;
}

/** What was found at the end. */
export interface AdminEnd {
  readonly complaints: readonly string[];
  /** Descriptors and mappings that this process had before the first way, and after the last. */
  readonly kept: readonly [unknown, unknown];
}

/** Between two rounds of commands: frames need the processor, too. */
const PAUSE_MS = 20;

/** Registers of which the notify addresses of one function alone are told. */
function notifiedAt(legacy: LegacyRegisterAccess, whose: AdminWay["notify"]): LegacyRegisterAccess {
  return {
    name: legacy.name,
    readCommon: (offset, width) => legacy.readCommon(offset, width),
    writeCommon: (offset, width, value) => legacy.writeCommon(offset, width, value),
    readDevice: (offset, width) => legacy.readDevice(offset, width),
    writeDevice: (offset, width, value) => legacy.writeDevice(offset, width, value),
    notifyAreas: () => legacy.notifyAreas().filter((area) => area.whose === whose),
  };
}

async function identities(members: readonly AdminMember[]): Promise<AdminReport["identities"]> {
  const read = await Promise.all(members.map(({ legacyAsync }) => readLegacyVfIdentity(legacyAsync)));
  return read.map((one) => ({ ...one, features: one.features.toString(16) }));
}

async function refusal(member: AdminMember): Promise<Record<string, unknown>> {
  try {
    await member.legacyAsync.readCommon(0, 4);
  } catch (error) {
    if (!(error instanceof AdminCommandError)) throw error;
    const { opcodeName, statusName, qualifierName, field, memberId } = error;
    return { opcodeName, statusName, qualifierName, field, memberId: String(memberId) };
  }
  return {};
}

async function run(
  host: LinuxHost,
  [pf = "", first = "", second = ""]: readonly string[],
  vfs: number,
  way: AdminWay,
): Promise<AdminReport> {
  await using stack = new AsyncDisposableStack();
  const open = (address: string) => stack.use(host.open(address, { path: way.path }));
  const owner = open(pf);
  const wait = way.interrupts === "none" ? "poll" : "eventfd";
  const admin = stack.use(
    await VirtioAdmin.open(stack.use(PciModernTransport.open(owner)), { interrupts: way.interrupts, wait }),
  );
  const members = Array.from({ length: vfs }, (_, vf) => admin.member(vf));
  const known = await identities(members);
  const capabilities = await admin.capabilities.list();
  const limits = await admin.capabilities.partsLimits();
  const idle = members.at(-1)!;
  await idle.setMode(true);
  const parts = await idle.saveParts();
  await idle.setMode(false);

  const legacyDevice = open(first);
  const registers = notifiedAt(members[0]!.legacy, way.notify);
  const legacyTransport = stack.use(LegacyAdminTransport.open(legacyDevice, registers, { owner }));
  const modernTransport = stack.use(PciModernTransport.open(open(second)));
  const place = legacyTransport.notifyPlace;
  const nets = await drive([legacyTransport, modernTransport], stack, { interrupts: way.interrupts, wait });
  let exchanging = true;
  const traffic = async (): Promise<void> => {
    try {
      await bothWays(nets[0], nets[1], way.frames, 0);
    } finally {
      exchanging = false;
    }
  };
  // Commands for all VFs at once, but for the one whose `queue_select` is its driver's.
  const administer = async (): Promise<number> => {
    let rounds = 0;
    for (; exchanging; rounds++) {
      const again = await identities(members.slice(1));
      if (JSON.stringify(again) !== JSON.stringify(known.slice(1))) throw new Error(JSON.stringify(again));
      await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
    }
    return rounds;
  };
  const [, rounds] = await Promise.all([traffic(), administer()]);
  // One frame at a time, with nothing else under way: each is notified, and takes an interrupt to arrive.
  await bothWays(nets[0], nets[1], 0, way.interruptFrames);
  const { sent, failed } = admin.admin.statistics;
  return {
    path: way.path,
    self: [...admin.self.used!].map(adminOpcodeName),
    sriov: [...admin.sriov.used!].map(adminOpcodeName),
    capabilities,
    limits,
    identities: known,
    areas: members[0]!.legacy.notifyAreas(),
    parts: parts.map(({ type }) => type),
    refused: await refusal(admin.member(vfs)),
    place,
    macs: nets.map(({ macText }) => macText),
    interruptKinds: [admin.interruptKind, ...nets.map(({ interruptKind }) => interruptKind)],
    features: nets.map(({ featureNames }) => featureNames),
    received: [nets[1], nets[0]].map((net) => net.statistics().received.frames),
    rounds,
    interrupts: nets[0].statistics().interrupts,
    sent,
    failed,
  };
}

if (import.meta.main) {
  const { vfs, ways } = JSON.parse(Deno.args[0]!) as AdminTask;
  const addresses = functions(ID.net);
  report({ lspci: runLspci(addresses.map((_, index) => index + 1)) } satisfies AdminStart);
  using host = new LinuxHost();
  for (const address of addresses) host.bind(address);
  const resources = () => ({ fds: openFdCount(), ...mappingCount() });
  const before = resources();
  for (const way of ways) report(await run(host, addresses, vfs, way));
  report({ complaints: kernelComplaints(), kept: [before, resources()] } satisfies AdminEnd);
}
