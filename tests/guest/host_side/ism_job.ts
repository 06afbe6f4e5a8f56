/**
 * In the guest: a virtio-ism function by kernel VFIO, which does what it is asked through a region of the other side. Started by
 * `ism_in_guest_test.ts` with one `IsmTask` in JSON; each path serves until it is told that it is the last request.
 */
import { VirtioIsm } from "../../../drivers/ism/virtio_ism.ts";
import { mappingCount, openFdCount } from "../../../ffi/mod.ts";
import { LinuxHost } from "../../../lib/host/linux_host.ts";
import { REGION, type VfioDevice } from "../../../lib/vfio/device.ts";
import { ISM_SHM } from "../../../lib/virtio/spec/ism.ts";
import { PciModernTransport } from "../../../lib/virtio/transport/pci_modern.ts";
import type { Request } from "../../emulated/ism/ism_peer.ts";
import { answering, IsmRequests } from "../../emulated/ism/ism_requests.ts";
import { functions, ID, type KernelPath } from "../guest_host.ts";
import { IsmMailbox } from "./ism_mailbox.ts";
import { kernelComplaints, report } from "./job_guest.ts";
import { runLspci } from "./lspci.ts";

/** What to do. */
export interface IsmTask {
  /** Region of requests and answers. */
  readonly token: string;
  /** Ways to the function, one after the other. */
  readonly paths: readonly KernelPath[];
}

/** What can be asked besides. */
export type GuestRequest =
  | Request
  /** What the function is reached by. */
  | { readonly op: "reached" }
  /** Past the driver, in the BAR: four bytes of the area of regions. */
  | { readonly op: "poke"; readonly areaOffset: number; readonly value: number }
  | { readonly op: "peek"; readonly areaOffset: number }
  | { readonly op: "complaints" }
  /** The last request by this path. */
  | { readonly op: "end" };

const PATIENCE_MS = 60_000;
/** BAR of the areas, which begins with that of regions. */
const BAR = REGION.bar0 + 2;

function beyond(
  request: Exclude<GuestRequest, Request>,
  device: VfioDevice,
  ism: VirtioIsm,
): unknown {
  switch (request.op) {
    case "reached": {
      const mappable = device.regionInfo(BAR).mmapAreas.length > 0;
      const areas = [ISM_SHM.regions, ISM_SHM.notify].map((id) =>
        ism.transport.sharedMemory?.(id)?.sizeBytes
      );
      const { interruptKind, regionVectors } = ism;
      return { mappable, areas, interruptKind, regionVectors };
    }
    case "poke":
      return device.writeRegion(
        BAR,
        request.areaOffset,
        new Uint8Array(Uint32Array.of(request.value).buffer),
      );
    case "peek": {
      const into = new Uint8Array(4);
      device.readRegion(BAR, request.areaOffset, into);
      return [...into];
    }
    case "complaints":
      return kernelComplaints();
    case "end":
      return null;
  }
}

const OWN = ["reached", "poke", "peek", "complaints", "end"] as const;
function isOwn(request: GuestRequest): request is Exclude<GuestRequest, Request> {
  return (OWN as readonly string[]).includes(request.op);
}

async function serve(host: LinuxHost, address: string, token: bigint, path: KernelPath): Promise<void> {
  using device = host.open(address, { path });
  using transport = PciModernTransport.open(device);
  await using ism = await VirtioIsm.open(transport, { regionVectors: 1 });
  const requests = new IsmRequests(ism);
  const mailbox = new IsmMailbox(ism, await ism.attach(token), false);
  for (let end = false; !end;) {
    const request = await mailbox.receive(PATIENCE_MS) as GuestRequest;
    mailbox.send(
      isOwn(request)
        ? await answering(() => Promise.resolve(beyond(request, device, ism)))
        : await requests.answerTo(request),
    );
    end = request.op === "end";
  }
}

if (import.meta.main) {
  const { token, paths } = JSON.parse(Deno.args[0]!) as IsmTask;
  const [address = ""] = functions(ID.ism);
  report({ lspci: runLspci([1]) });
  using host = new LinuxHost();
  host.bind(address);
  const resources = () => ({ fds: openFdCount(), ...mappingCount() });
  const before = resources();
  for (const path of paths) {
    await serve(host, address, BigInt(token), path);
    report({ path, kept: [before, resources()] });
  }
}
