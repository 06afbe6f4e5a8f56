/**
 * A virtio-mmio device as BAR 0 of a PCI function, so that it can be plugged into a guest: its registers are the BAR, its line is INTx. PCI drivers have no
 * business with it.
 */
import { UsageError } from "../../../lib/errors/mod.ts";
import type { FunctionTopology, MmioTopology } from "../../../lib/emulation/function_topology.ts";
import type { BehaviourOptions, FunctionModels, PciFunctionBehaviour } from "../../../lib/emulation/mod.ts";
import type { BarDeclaration, PciFunctionPort, PciIdentity } from "../../../lib/emulation/pci_function.ts";
import type { PlatformBehaviour, PlatformPort } from "../../../lib/emulation/platform_behaviour.ts";
import type { ResetKind } from "../../../lib/emulation/device_behaviour.ts";
import type { ServedDoorbell } from "../../../lib/sockets/vfio_user/server/served_device.ts";

const BAR = 0;
const PAGE_BYTES = 4096;

/** The function. It is the registers' only BAR, to whose end they need not go: what is behind them reads 0. */
class MmioBar implements PciFunctionBehaviour {
  /** Of nobody's: no driver of the guest's kernel asks for it. */
  readonly identity: PciIdentity = {
    vendorId: 0x1234,
    deviceId: 0x11e9,
    subsystemVendorId: 0x1234,
    subsystemId: 1,
    revision: 0,
    classCode: 0xff0000,
  };
  readonly bars: readonly BarDeclaration[];
  readonly interruptPin = 1;
  readonly vendorCapabilities = [];
  readonly queueReport?: NonNullable<PlatformBehaviour["queueReport"]>;
  readonly #mmio: PlatformBehaviour;

  constructor(mmio: PlatformBehaviour) {
    if (mmio.queueReport !== undefined) this.queueReport = () => mmio.queueReport!();
    const sizeBytes = Math.max(PAGE_BYTES, mmio.windowBytes);
    this.#mmio = mmio;
    this.bars = [{ index: BAR, kind: "mem32", sizeBytes, prefetchable: false }];
  }

  get wakeAfterMs(): number | undefined {
    return this.#mmio.wakeAfterMs;
  }

  connect(port: PciFunctionPort): void {
    this.#mmio.connect(platformPort(port));
  }

  readBar(_bar: number, offset: number, into: Uint8Array): void {
    if (this.#inside(offset, into)) this.#mmio.readWindow(offset, into);
    else into.fill(0);
  }

  writeBar(_bar: number, offset: number, from: Uint8Array): void {
    if (this.#inside(offset, from)) this.#mmio.writeWindow(offset, from);
  }

  #inside(offset: number, bytes: Uint8Array): boolean {
    return offset + bytes.length <= this.#mmio.windowBytes;
  }

  doorbells(region: number): readonly ServedDoorbell[] {
    return region === BAR ? this.#mmio.doorbells(BAR) : [];
  }

  rang(region: number, offset: number, value?: number): void {
    this.#mmio.rang(region, offset, value);
  }

  attached(): void {
    this.#mmio.attached();
  }

  dmaWillUnmap(iova: bigint, sizeBytes: number): void {
    this.#mmio.dmaWillUnmap(iova, sizeBytes);
  }

  reset(kind: ResetKind): void {
    this.#mmio.reset(kind);
  }

  detached(): void {
    this.#mmio.detached();
  }

  poll(budget: number): number {
    return this.#mmio.poll(budget);
  }

  arm(): boolean {
    return this.#mmio.arm();
  }

  close(): void {
    this.#mmio.close();
  }
}

/** What a PCI function's machine is to a platform device. */
function platformPort(port: PciFunctionPort): PlatformPort {
  return {
    name: port.name,
    get dma() {
      return port.dma;
    },
    windowAddress: port.barAddress?.(BAR) ?? 0n,
    watch: (fd, handler) => port.watch?.(fd, handler),
    unwatch: (fd) => port.unwatch?.(fd),
    wake: () => port.wake?.(),
    report: (violation) => port.report(violation),
    setLine: (asserted) => port.setIntx(asserted),
    raiseMessage: () => {
      throw new UsageError("a form of virtio-mmio with messages has no place behind a BAR");
    },
  };
}

/** Makes behaviours as `models` does, but of some addresses in BARs. */
export function mmioInBars(
  models: FunctionModels,
  form: MmioTopology["form"],
  addresses: readonly string[],
): FunctionModels {
  return {
    reports: models.reports,
    createBehaviour: (kind: string, options: BehaviourOptions & FunctionTopology) =>
      addresses.includes(options.address)
        ? new MmioBar(models.createPlatformBehaviour!(kind, { ...options, mmio: { form } }))
        : models.createBehaviour(kind, options),
  };
}
