/**
 * A model of kernel VFIO behind `KernelCalls`: one container model, groups, character devices, iommufd, and functions with
 * regions and interrupts. It keeps the kernel's order rules, so that code which breaks them fails as it would for real.
 */
import {
  createMemfd,
  errnoNumber,
  type IoctlRequest,
  MappedMemory,
  type OwnedFd,
  pageSizeBytes,
  SyscallError,
} from "../../../../ffi/mod.ts";
import type { KernelCalls } from "../../../../lib/vfio/kernel/kernel_calls.ts";

type Bytes = Uint8Array<ArrayBuffer>;
type Handler = (argument: Bytes, pointee?: Bytes) => number | void;

/** A function of the model. */
export interface FakeFunction {
  readonly address: string;
  readonly group: number;
  readonly driver?: string;
  readonly cdev?: string;
  readonly physicalFunction?: string;
  readonly isPf?: boolean;
  /** UUID digits without dashes that opening it takes. */
  readonly token?: string;
  /** Interrupt counts and flags by index. */
  readonly irqs?: readonly { readonly count: number; readonly flags: number }[];
  /** It is a platform device, with these windows of registers in firmware's order. */
  readonly windows?: readonly FakeWindow[];
  /** The kernel has a reset function for such a platform device. */
  readonly resettable?: boolean;
  /** No IOMMU is in front of it. */
  readonly noIommu?: boolean;
}

/** A resource of a platform device. */
export interface FakeWindow {
  readonly address: bigint;
  readonly bytes: Bytes;
  readonly isReadOnly?: boolean;
}

const PLATFORM = { flags: 4, reset: 1 } as const;
const IRQ = { eventfd: 1, maskable: 2 } as const;
const SET = { none: 1, eventfd: 4, mask: 8, unmask: 16, trigger: 32 } as const;

/** An open file of the model. */
interface OpenFile {
  readonly path: string;
  container?: Container;
  /** What it is attached to: the id of an IOAS or of a page table. */
  ioas?: number;
  /** The same by PASID. */
  pasids?: Map<number, number>;
  bound?: boolean;
  /** In the iommufd. */
  id?: number;
  readonly fn?: FakeFunction;
}

interface Container {
  iommu: number;
  groups: number;
}

/** Region `index` lies at this offset: past 2^53, so that code which computes with numbers fails. */
export const regionOffset = (index: number): bigint => (1n << 61n) + (BigInt(index) << 40n);

/** The model. Everything that tests change is public. */
export class FakeKernel implements KernelCalls {
  /** Calls in order: `open PATH` or `PATH REQUEST`. */
  readonly log: string[] = [];
  /** DMA mappings by address space (`type1` or the IOAS id), as `iova+size flags`. */
  readonly dma = new Map<string, Map<bigint, { size: bigint; flags: number }>>();
  readonly functions: FakeFunction[] = [];
  readonly nodes = new Set<string>(["/dev/vfio", "/dev/vfio/vfio"]);
  readonly notViable = new Set<number>();
  /** Functions that the kernel asked for back while they were opened. */
  readonly unregistered = new Set<string>();
  /** Errno for a request by name, once each. */
  readonly failOnce = new Map<string, string>();
  /** Every SET_IRQS argument. */
  readonly irqSets: Bytes[] = [];
  /** Device names that were passed to GROUP_GET_DEVICE_FD. */
  readonly deviceNames: string[] = [];
  /** Arguments by request name, as they came in. */
  readonly arguments = new Map<string, Bytes[]>();
  /** Page tables for PASIDs, with the IOAS that each is over. */
  readonly pageTables = new Map<number, number>();
  /** PASIDs that functions have. */
  lastPasid = 255;
  /** Config space of every function. */
  readonly config: Bytes = new Uint8Array(256);
  extensions: readonly number[] = [1, 3, 9];
  apiVersion = 0;
  deviceFlags = 3;
  /** Sparse areas and the like, after the fixed 32 bytes of BAR 0's region info. */
  regionCaps: Bytes = new Uint8Array(0);
  iommuCaps: Bytes = new Uint8Array(0);
  iovaRanges: readonly (readonly [bigint, bigint])[] = [[0n, 0xfedf_ffffn], [0xfef0_0000n, (1n << 39n) - 1n]];
  hotReset: { flags: number; dependents: readonly (readonly [number, number, number])[] } = {
    flags: 0,
    dependents: [],
  };
  readonly #files = new Map<number, OpenFile>();
  #nextId = 1;

  add(fn: FakeFunction): void {
    this.functions.push(fn);
    if (fn.driver === "vfio-pci" || fn.driver === "vfio-platform") {
      this.nodes.add(`/dev/vfio/${fn.noIommu ? "noiommu-" : ""}${fn.group}`);
      if (fn.cdev !== undefined) {
        this.nodes.add(`/dev/vfio/devices/${fn.cdev}`);
        this.nodes.add("/dev/iommu");
      }
    }
  }

  openNode(path: string): OwnedFd {
    this.log.push(`open ${path}`);
    if (!this.nodes.has(path)) fail("open", path, "ENOENT");
    if ([...this.#live()].some((file) => file.path === path && /\/\d+$/.test(path))) {
      fail("open", path, "EBUSY");
    }
    const fn = this.functions.find((one) => path === `/dev/vfio/devices/${one.cdev}`);
    const fd = createMemfd(path, pageSizeBytes);
    this.#files.set(fd.number, fn === undefined ? { path } : { path, fn });
    const close = fd.close.bind(fd);
    const number = fd.number;
    fd.close = () => {
      if (!fd.closed) this.#files.delete(number);
      close();
    };
    return fd;
  }

  *#live(): Iterable<OpenFile> {
    yield* this.#files.values();
  }

  exists(path: string): boolean {
    if (this.nodes.has(path)) return true;
    const match = /^\/sys\/bus\/(pci|platform)\/devices\/([^/]+)(?:\/(.*))?$/.exec(path)?.slice(1);
    const fn = this.functions.find((one) =>
      one.address === match?.[1] && (one.windows === undefined) === (match?.[0] === "pci")
    );
    if (fn === undefined) return false;
    const below = match?.[2];
    return below === undefined || (below === "sriov_totalvfs" && fn.isPf === true) ||
      (below === `vfio-dev/${fn.cdev}` && !this.unregistered.has(fn.address));
  }

  readLink(path: string): string {
    const [, address, name] = /devices\/([^/]+)\/(.*)$/.exec(path) ?? [];
    const fn = this.functions.find((one) => one.address === address);
    const target = name === "driver"
      ? fn?.driver && `../drivers/${fn.driver}`
      : name === "iommu_group"
      ? fn && fn.group >= 0 && `../../iommu_groups/${fn.group}`
      : name === "physfn"
      ? fn?.physicalFunction && `../${fn.physicalFunction}`
      : undefined;
    return target || fail("readlink", path, "ENOENT");
  }

  readText(path: string): string {
    return fail("open", path, "ENOENT");
  }

  list(path: string): string[] {
    const group = /iommu_groups\/(\d+)\/devices$/.exec(path)?.[1];
    if (group !== undefined) {
      return this.functions.filter((one) => one.group === Number(group)).map((one) => one.address);
    }
    const fn = this.functions.find((one) => path.endsWith(`/devices/${one.address}/vfio-dev`));
    return fn?.cdev === undefined ? fail("open", path, "ENOENT") : [fn.cdev];
  }

  ioctlValue(fd: OwnedFd, request: IoctlRequest, value = 0n): number {
    const file = this.#enter(fd, request);
    switch (request.name) {
      case "VFIO_GET_API_VERSION":
        return this.apiVersion;
      case "VFIO_CHECK_EXTENSION":
        return this.extensions.includes(Number(value)) ? 1 : 0;
      case "VFIO_SET_IOMMU":
        if (file.container === undefined || file.container.groups === 0) {
          fail(request.name, file.path, "EINVAL");
        }
        file.container.iommu = Number(value);
        return 0;
      case "VFIO_DEVICE_RESET":
        if (file.fn?.windows !== undefined && !file.fn.resettable) fail(request.name, file.path, "EINVAL");
        return 0;
    }
    return fail(request.name, file.path, "ENOTTY");
  }

  ioctlPointing(
    fd: OwnedFd,
    request: IoctlRequest,
    argument: Bytes,
    pointerOffset: number,
    pointee: Bytes,
  ): number {
    view(argument).setBigUint64(pointerOffset, 0xdead_0000n, true);
    return this.#call(fd, request, argument, pointee);
  }

  ioctlBuffer(fd: OwnedFd, request: IoctlRequest, argument: Bytes): number {
    return this.#call(fd, request, argument);
  }

  /** The window that an access to a platform device is about; undefined for a PCI function. */
  #window(fd: OwnedFd, offset: bigint, length: number): { window: FakeWindow; at: number } | undefined {
    const windows = this.#files.get(fd.number)?.fn?.windows;
    if (windows === undefined) return undefined;
    const index = Number((offset - regionOffset(0)) >> 40n);
    const window = windows[index] ?? fail("access", fd.target, "EINVAL");
    const at = Number(offset - regionOffset(index));
    return at + length <= window.bytes.length ? { window, at } : fail("access", fd.target, "EINVAL");
  }

  /** As vfio_platform_read_mmio: pieces of 4, 2 and 1 bytes, as the offset's alignment lets it. */
  #pieces(what: string, at: number, length: number): void {
    for (let done = 0; done < length;) {
      const size = [4, 2, 1].find((one) => length - done >= one && (at + done) % one === 0)!;
      this.log.push(`${what} ${(at + done).toString(16)} ${size}`);
      done += size;
    }
  }

  pread(fd: OwnedFd, into: Bytes, offset: bigint): number {
    const mmio = this.#window(fd, offset, into.length);
    if (mmio !== undefined) {
      this.#pieces("ioread", mmio.at, into.length);
      into.set(mmio.window.bytes.subarray(mmio.at, mmio.at + into.length));
      return into.length;
    }
    const at = Number(offset - regionOffset(7));
    this.log.push(`pread ${offset} ${into.length}`);
    if (at >= 0 && at < 256) {
      // The kernel may do less than was asked for.
      const n = Math.min(into.length, 100);
      into.set(this.config.subarray(at, at + n));
      return n;
    }
    return into.fill(0xa5).length;
  }

  pwrite(fd: OwnedFd, from: Bytes, offset: bigint): number {
    const mmio = this.#window(fd, offset, from.length);
    if (mmio !== undefined) {
      if (mmio.window.isReadOnly) fail("pwrite", fd.target, "EINVAL");
      this.#pieces("iowrite", mmio.at, from.length);
      mmio.window.bytes.set(from, mmio.at);
      return from.length;
    }
    const at = Number(offset - regionOffset(7));
    this.log.push(`pwrite ${offset} ${from.length}`);
    if (at >= 0 && at < 256) this.config.set(from, at);
    return from.length;
  }

  map(fd: OwnedFd, sizeBytes: number, offset: bigint, writable: boolean): MappedMemory {
    const mmio = this.#window(fd, offset, sizeBytes);
    if (mmio !== undefined && !isMappable(mmio.window)) fail("mmap", fd.target, "EINVAL");
    this.log.push(`mmap ${offset} ${sizeBytes} ${writable}`);
    return MappedMemory.anonymous(sizeBytes);
  }

  #enter(fd: OwnedFd, request: IoctlRequest): OpenFile {
    const file = this.#files.get(fd.number) ?? fail(request.name, fd.target, "EBADF");
    this.log.push(`${file.path} ${request.name}`);
    const failure = this.failOnce.get(request.name);
    if (failure !== undefined) {
      this.failOnce.delete(request.name);
      fail(`ioctl ${request.name}`, file.path, failure);
    }
    if (file.path === "/dev/vfio/vfio") file.container ??= { iommu: 0, groups: 0 };
    return file;
  }

  #call(fd: OwnedFd, request: IoctlRequest, argument: Bytes, pointee?: Bytes): number {
    const file = this.#enter(fd, request);
    const seen = this.arguments.get(request.name) ?? [];
    this.arguments.set(request.name, [...seen, argument.slice()]);
    const device = file.fn !== undefined;
    if (device && !file.bound && request.name !== "VFIO_DEVICE_BIND_IOMMUFD") {
      fail(request.name, file.path, "EINVAL");
    }
    const handlers: Record<string, Handler> = device
      ? { ...this.#device(file), ...(file.fn.windows === undefined ? {} : this.#platform(file)) }
      : this.#other(file);
    const handler = handlers[request.name] ?? fail(`ioctl ${request.name}`, file.path, "ENOTTY");
    return handler(argument, pointee) ?? 0;
  }

  #space(key: string): Map<bigint, { size: bigint; flags: number }> {
    const space = this.dma.get(key) ?? new Map();
    this.dma.set(key, space);
    return space;
  }

  #other(file: OpenFile): Record<string, Handler> {
    const number = Number(/\/dev\/vfio\/(?:noiommu-)?(\d+)$/.exec(file.path)?.[1] ?? -1);
    return {
      VFIO_GROUP_GET_STATUS: (a) => view(a).setUint32(4, this.notViable.has(number) ? 0 : 1, true),
      VFIO_GROUP_SET_CONTAINER: (a) => {
        const container = this.#files.get(view(a).getInt32(0, true))?.container;
        if (container === undefined) fail("SET_CONTAINER", file.path, "EINVAL");
        container.groups++;
        file.container = container;
      },
      VFIO_GROUP_GET_DEVICE_FD: (a) => {
        const name = new TextDecoder().decode(a.subarray(0, a.indexOf(0)));
        this.deviceNames.push(name);
        const [address, token] = name.split(" vf_token=");
        const fn = this.functions.find((one) => one.address === address && one.group === number);
        const call = "ioctl VFIO_GROUP_GET_DEVICE_FD";
        if (fn === undefined || !file.container?.iommu) return fail(call, file.path, "EINVAL");
        this.#checkToken(fn, token?.replaceAll("-", ""), call);
        const fd = createMemfd(`device ${address}`, pageSizeBytes).release();
        this.#files.set(fd, { path: `device ${address}`, fn, bound: true });
        return fd;
      },
      VFIO_IOMMU_GET_INFO: (a) => {
        this.#requireIommu(file);
        view(a).setUint32(4, 1 | (this.iommuCaps.length > 0 ? 2 : 0), true);
        view(a).setBigUint64(8, 0x1000n | 0x20_0000n, true);
        appendCaps(a, 24, 16, this.iommuCaps);
      },
      VFIO_IOMMU_MAP_DMA: (a) => {
        this.#requireIommu(file);
        const v = view(a);
        const at = { size: v.getBigUint64(24, true), flags: v.getUint32(4, true) };
        this.#space("type1").set(v.getBigUint64(16, true), at);
      },
      VFIO_IOMMU_UNMAP_DMA: (a) => {
        const v = view(a);
        const iova = v.getBigUint64(8, true);
        v.setBigUint64(16, this.#space("type1").get(iova)?.size ?? 0n, true);
        this.#space("type1").delete(iova);
      },
      IOMMU_IOAS_ALLOC: (a) => view(a).setUint32(8, this.#nextId++, true),
      IOMMU_DESTROY: (a) => {
        const id = view(a).getUint32(4, true);
        const uses = (one: OpenFile) => one.ioas === id || [...one.pasids?.values() ?? []].includes(id);
        if ([...this.#live()].some(uses) || [...this.pageTables.values()].includes(id)) {
          fail("ioctl IOMMU_DESTROY", file.path, "EBUSY");
        }
        this.pageTables.delete(id);
        this.log.push(`destroyed ${id}`);
      },
      IOMMU_GET_HW_INFO: (a) => view(a).setUint8(28, Math.ceil(Math.log2(this.lastPasid + 1))),
      IOMMU_HWPT_ALLOC: (a) => {
        const v = view(a), device = v.getUint32(8, true);
        if (v.getUint32(4, true) !== 8 || ![...this.#live()].some((one) => one.id === device)) {
          fail("ioctl IOMMU_HWPT_ALLOC", file.path, "EINVAL");
        }
        v.setUint32(16, this.#nextId, true);
        this.pageTables.set(this.#nextId++, v.getUint32(12, true));
      },
      IOMMU_IOAS_IOVA_RANGES: (a, array) => {
        const v = view(a);
        const room = v.getUint32(8, true);
        v.setUint32(8, this.iovaRanges.length, true);
        v.setBigUint64(24, 4096n, true);
        if (room < this.iovaRanges.length) fail("ioctl IOMMU_IOAS_IOVA_RANGES", file.path, "EMSGSIZE");
        this.iovaRanges.forEach(([start, last], i) => {
          view(array!).setBigUint64(i * 16, start, true);
          view(array!).setBigUint64(i * 16 + 8, last, true);
        });
      },
      IOMMU_IOAS_MAP: (a) => {
        const v = view(a);
        const at = { size: v.getBigUint64(24, true), flags: v.getUint32(4, true) };
        this.#space(`${v.getUint32(8, true)}`).set(v.getBigUint64(32, true), at);
      },
      IOMMU_IOAS_UNMAP: (a) => {
        const v = view(a);
        const space = this.#space(`${v.getUint32(4, true)}`);
        const iova = v.getBigUint64(8, true);
        if (!space.has(iova)) fail("ioctl IOMMU_IOAS_UNMAP", file.path, "ENOENT");
        v.setBigUint64(16, space.get(iova)!.size, true);
        space.delete(iova);
      },
    };
  }

  #device(file: OpenFile): Record<string, Handler> {
    const fn = file.fn!;
    return {
      VFIO_DEVICE_BIND_IOMMUFD: (a, token) => {
        const call = "ioctl VFIO_DEVICE_BIND_IOMMUFD";
        if (file.bound) fail(call, file.path, "EINVAL");
        if (this.#files.get(view(a).getInt32(8, true))?.path !== "/dev/iommu") fail(call, file.path, "EBADF");
        this.#checkToken(fn, token && [...token].map((b) => b.toString(16).padStart(2, "0")).join(""), call);
        file.bound = true;
        file.id = this.#nextId++;
        view(a).setUint32(12, file.id, true);
      },
      VFIO_DEVICE_ATTACH_IOMMUFD_PT: (a) => {
        const v = view(a), pt = v.getUint32(8, true);
        if (v.getUint32(4, true) === 0) file.ioas = pt;
        else if (
          v.getUint32(0, true) < 16 || v.getUint32(12, true) > this.lastPasid ||
          ![pt, file.ioas!].every((one) => this.pageTables.has(one))
        ) fail("ioctl VFIO_DEVICE_ATTACH_IOMMUFD_PT", file.path, "EINVAL");
        else (file.pasids ??= new Map()).set(v.getUint32(12, true), pt);
      },
      VFIO_DEVICE_DETACH_IOMMUFD_PT: () => {
        delete file.ioas;
      },
      VFIO_DEVICE_GET_INFO: (a) => {
        const v = view(a);
        v.setUint32(4, this.deviceFlags, true);
        v.setUint32(8, 9, true);
        v.setUint32(12, 5, true);
      },
      VFIO_DEVICE_GET_REGION_INFO: (a) => {
        const v = view(a);
        const index = v.getUint32(8, true);
        if (index === 8) fail("ioctl VFIO_DEVICE_GET_REGION_INFO", file.path, "EINVAL");
        const size = index === 0 ? 4 * pageSizeBytes : index === 7 ? 256 : 0;
        const caps = index === 0 ? this.regionCaps : new Uint8Array(0);
        v.setUint32(4, size === 0 ? 0 : index === 7 ? 3 : 7 | (caps.length > 0 ? 8 : 0), true);
        v.setBigUint64(16, BigInt(size), true);
        v.setBigUint64(24, regionOffset(index), true);
        appendCaps(a, 32, 12, caps);
      },
      VFIO_DEVICE_GET_IRQ_INFO: (a) => {
        const v = view(a);
        const irq = fn.irqs?.[v.getUint32(8, true)];
        if (irq === undefined) return fail("ioctl VFIO_DEVICE_GET_IRQ_INFO", file.path, "EINVAL");
        v.setUint32(4, irq.flags, true);
        v.setUint32(12, irq.count, true);
      },
      VFIO_DEVICE_SET_IRQS: (a) => {
        this.irqSets.push(a.slice());
      },
      VFIO_DEVICE_GET_PCI_HOT_RESET_INFO: (a) => {
        const v = view(a);
        const { flags, dependents } = this.hotReset;
        v.setUint32(4, flags, true);
        v.setUint32(8, dependents.length, true);
        if (a.length < 12 + 8 * dependents.length) {
          fail("ioctl VFIO_DEVICE_GET_PCI_HOT_RESET_INFO", file.path, "ENOSPC");
        }
        dependents.forEach(([id, bus, devfn], i) => {
          v.setUint32(12 + 8 * i, id, true);
          v.setUint8(18 + 8 * i, bus);
          v.setUint8(19 + 8 * i, devfn);
        });
      },
      VFIO_DEVICE_PCI_HOT_RESET: () => {},
      VFIO_DEVICE_FEATURE: (a) => {
        const flags = view(a).getUint32(4, true);
        if ((flags & 0xffff) !== 0) fail("ioctl VFIO_DEVICE_FEATURE", file.path, "ENOTTY");
        if ((flags & 0x1_0000) !== 0) fail("ioctl VFIO_DEVICE_FEATURE", file.path, "EINVAL");
      },
    };
  }

  /** drivers/vfio/platform/vfio_platform_{common,irq}.c */
  #platform(file: OpenFile): Record<string, Handler> {
    const { irqs = [], windows = [], resettable } = file.fn!;
    const invalid = (request: string) => fail(`ioctl ${request}`, file.path, "EINVAL");
    const unknown = (request: string): Handler => () => fail(`ioctl ${request}`, file.path, "ENOTTY");
    return {
      VFIO_DEVICE_GET_INFO: (a) => {
        const v = view(a);
        v.setUint32(4, PLATFORM.flags | (resettable ? PLATFORM.reset : 0), true);
        v.setUint32(8, windows.length, true);
        v.setUint32(12, irqs.length, true);
      },
      VFIO_DEVICE_GET_REGION_INFO: (a) => {
        const v = view(a);
        const index = v.getUint32(8, true);
        const window = windows[index] ?? invalid("VFIO_DEVICE_GET_REGION_INFO");
        v.setUint32(4, 1 | (window.isReadOnly ? 0 : 2) | (isMappable(window) ? 4 : 0), true);
        v.setBigUint64(16, BigInt(window.bytes.length), true);
        v.setBigUint64(24, regionOffset(index), true);
      },
      VFIO_DEVICE_SET_IRQS: (a) => {
        const request = "VFIO_DEVICE_SET_IRQS";
        this.irqSets.push(a.slice());
        const [, flags = 0, index = 0, start, count] = new Uint32Array(a.buffer, 0, 5);
        const irq = irqs[index] ?? invalid(request);
        // Turning a line off needs no range; everything else is about the one vector that it has.
        if (count === 0 && flags === (SET.none | SET.trigger)) return;
        if (start !== 0 || count !== 1) invalid(request);
        if ((flags & (SET.mask | SET.unmask)) !== 0 && (irq.flags & IRQ.maskable) === 0) invalid(request);
        if ((flags & SET.eventfd) !== 0 && (irq.flags & IRQ.eventfd) === 0) invalid(request);
      },
      VFIO_DEVICE_GET_PCI_HOT_RESET_INFO: unknown("VFIO_DEVICE_GET_PCI_HOT_RESET_INFO"),
      VFIO_DEVICE_PCI_HOT_RESET: unknown("VFIO_DEVICE_PCI_HOT_RESET"),
      VFIO_DEVICE_FEATURE: unknown("VFIO_DEVICE_FEATURE"),
    };
  }

  #requireIommu(file: OpenFile): void {
    if (!file.container?.iommu) fail("ioctl on container", file.path, "EINVAL");
  }

  #checkToken(fn: FakeFunction, token: string | undefined, call: string): void {
    if (fn.token === undefined && token !== undefined) fail(call, fn.address, "EINVAL");
    if (fn.token !== undefined && fn.token !== token) fail(call, fn.address, "EACCES");
  }
}

/** Only whole pages of registers may be mapped: what else is in a page is another device's. */
function isMappable({ address, bytes }: FakeWindow): boolean {
  return Number(address % BigInt(pageSizeBytes)) === 0 && bytes.length % pageSizeBytes === 0;
}

function view(bytes: Bytes): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** As the kernel: a buffer too small gets no capability and a raised `argsz`. */
function appendCaps(argument: Bytes, fixedBytes: number, capOffsetAt: number, caps: Bytes): void {
  if (caps.length === 0) return;
  if (argument.length < fixedBytes + caps.length) {
    view(argument).setUint32(0, fixedBytes + caps.length, true);
    view(argument).setUint32(capOffsetAt, 0, true);
    return;
  }
  argument.set(caps, fixedBytes);
  view(argument).setUint32(capOffsetAt, fixedBytes, true);
}

function fail(call: string, target: string, code: string): never {
  throw new SyscallError(call, target, errnoNumber[code]!);
}
