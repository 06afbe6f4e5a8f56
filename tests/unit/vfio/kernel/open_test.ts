/** Opening by both paths against a model of the kernel: orders, sharing, refusals, and that failures leave nothing behind. */
import { assert, assertEquals, assertStrictEquals, assertStringIncludes, assertThrows } from "@std/assert";
import {
  accessible,
  mappingCount,
  openFdCount,
  type OwnedFd,
  pageSizeBytes,
  readDirectory,
  SyscallError,
} from "../../../../ffi/mod.ts";
import {
  ClosedError,
  NotFoundError,
  ProtocolError,
  RefusedError,
  RemovalRequestedError,
  RingsideError,
  UnsupportedError,
  UsageError,
} from "../../../../lib/errors/mod.ts";
import { openOn } from "../../../../lib/vfio/kernel/open.ts";
import { openKernelDevice } from "../../../../lib/vfio/mod.ts";
import { type FakeFunction, FakeKernel } from "./fake_kernel.ts";

const PAGE = pageSizeBytes;
const PF = "0000:01:00.0";
const VF = "0000:01:00.1";
const TOKEN = "bd8d9d2b-5a5f-4f5a-a211-f591514ba1f3";
const OTHER_TOKEN = "00000000-5a5f-4f5a-a211-f591514ba1f3";

function kernelWith(...functions: FakeFunction[]): FakeKernel {
  const kernel = new FakeKernel();
  for (const fn of functions) kernel.add(fn);
  return kernel;
}

const plain: FakeFunction = { address: PF, group: 12, driver: "vfio-pci", cdev: "vfio3" };
const vf: FakeFunction = {
  address: VF,
  group: 13,
  driver: "vfio-pci",
  cdev: "vfio4",
  physicalFunction: PF,
  token: TOKEN.replaceAll("-", ""),
};

/** Runs `body` and checks that no descriptor and no mapping is left. */
function balanced(body: () => void): void {
  const before = { fds: openFdCount(), ...mappingCount() };
  body();
  assertEquals({ fds: openFdCount(), ...mappingCount() }, before);
}

const types = (kernel: FakeKernel): string[] => kernel.log.filter((line) => !line.includes("REGION"));

Deno.test("8.3 group path: the order of requests, and Type1v2", () => {
  balanced(() => {
    const kernel = kernelWith(plain);
    using device = openOn(kernel, "01:00.0", { path: "group" });
    assertEquals([device.name, device.path, device.dma.mapper.iommu], [PF, "group", true]);
    assertEquals(types(kernel), [
      "open /dev/vfio/vfio",
      "/dev/vfio/vfio VFIO_GET_API_VERSION",
      "open /dev/vfio/12",
      "/dev/vfio/12 VFIO_GROUP_GET_STATUS",
      "/dev/vfio/12 VFIO_GROUP_SET_CONTAINER",
      "/dev/vfio/vfio VFIO_CHECK_EXTENSION",
      "/dev/vfio/vfio VFIO_SET_IOMMU",
      "/dev/vfio/vfio VFIO_IOMMU_GET_INFO",
      "/dev/vfio/12 VFIO_GROUP_GET_DEVICE_FD",
      `device ${PF} VFIO_DEVICE_GET_INFO`,
      // Whether there are an error and a request interrupt.
      `device ${PF} VFIO_DEVICE_GET_IRQ_INFO`,
      `device ${PF} VFIO_DEVICE_GET_IRQ_INFO`,
    ]);
    assertEquals(kernel.deviceNames, [PF]);
  });
});

Deno.test("8.4 cdev path: the order of requests, original sizes, EMSGSIZE, teardown", () => {
  balanced(() => {
    const kernel = kernelWith(plain);
    {
      using device = openOn(kernel, PF, { path: "cdev" });
      assertEquals([device.path, device.dma.mapper.iommu], ["cdev", true]);
      using memory = device.dma.allocate(PAGE);
      assertEquals(kernel.dma.get("1")?.get(memory.iova), { size: BigInt(PAGE), flags: 1 | 2 | 4 });
      using readOnly = device.dma.allocate(PAGE, { access: { deviceReads: true, deviceWrites: false } });
      assertEquals(kernel.dma.get("1")?.get(readOnly.iova)?.flags, 1 | 4);
    }
    assertEquals(kernel.dma.get("1")?.size, 0);
    assertEquals(kernel.log.filter((line) => !line.includes("IOAS_MAP") && !line.includes("IOAS_UNMAP")), [
      "open /dev/iommu",
      "/dev/iommu IOMMU_IOAS_ALLOC",
      "open /dev/vfio/devices/vfio3",
      "/dev/vfio/devices/vfio3 VFIO_DEVICE_BIND_IOMMUFD",
      "/dev/vfio/devices/vfio3 VFIO_DEVICE_ATTACH_IOMMUFD_PT",
      "/dev/iommu IOMMU_IOAS_IOVA_RANGES",
      "/dev/iommu IOMMU_IOAS_IOVA_RANGES",
      "/dev/vfio/devices/vfio3 VFIO_DEVICE_GET_INFO",
      "/dev/vfio/devices/vfio3 VFIO_DEVICE_GET_IRQ_INFO",
      "/dev/vfio/devices/vfio3 VFIO_DEVICE_GET_IRQ_INFO",
      "/dev/iommu IOMMU_DESTROY",
      "destroyed 1",
    ]);
    const argsz = (name: string) => new DataView(kernel.arguments.get(name)![0]!.buffer).getUint32(0, true);
    assertEquals(argsz("VFIO_DEVICE_BIND_IOMMUFD"), 16);
    assertEquals(argsz("VFIO_DEVICE_ATTACH_IOMMUFD_PT"), 12);
  });
});

Deno.test("type1 mappings: flags by access, IOVAs within the kernel's ranges, unmapped exactly", () => {
  balanced(() => {
    const kernel = kernelWith(plain);
    // One range of three pages, the first of which is address 0.
    kernel.iommuCaps = new Uint8Array(
      new Uint32Array([0x1_0001, 0, 1, 0, 0, 0, 3 * PAGE - 1, 0]).buffer,
    );
    using device = openOn(kernel, PF, { path: "group" });
    const read = device.dma.allocate(PAGE, { access: { deviceReads: true, deviceWrites: false } });
    const write = device.dma.allocate(PAGE, { access: { deviceReads: false, deviceWrites: true } });
    assertEquals([...kernel.dma.get("type1")!], [
      [BigInt(PAGE), { size: BigInt(PAGE), flags: 1 }],
      [BigInt(2 * PAGE), { size: BigInt(PAGE), flags: 2 }],
    ]);
    assertThrows(() => device.dma.allocate(PAGE), RingsideError, "IOVA space");
    read.close();
    assertEquals([...kernel.dma.get("type1")!.keys()], [BigInt(2 * PAGE)]);
    kernel.dma.get("type1")!.clear();
    assertThrows(() => write.close(), RingsideError, `unmapped 0 of ${PAGE}`);
  });
});

Deno.test("a mapping that the kernel refuses is undone, and says what to do", () => {
  balanced(() => {
    const kernel = kernelWith(plain);
    using device = openOn(kernel, PF, { path: "group" });
    kernel.failOnce.set("VFIO_IOMMU_MAP_DMA", "ENOMEM");
    const error = assertThrows(() => device.dma.allocate(PAGE), SyscallError, "ENOMEM") as SyscallError;
    assert(error.hint.includes("ulimit -l"), error.hint);
    assertEquals(device.dma.usage.allocations, 0);
    device.dma.allocate(PAGE);
  });
});

for (const path of ["group", "cdev"] as const) {
  Deno.test(`functions of one IOMMU group share its address space until the last is closed (${path})`, () => {
    balanced(() => {
      const kernel = kernelWith(plain, { ...plain, address: VF, cdev: "vfio5" });
      const one = openOn(kernel, PF, { path });
      const two = openOn(kernel, VF, { path });
      const opens = (node: string) => kernel.log.filter((line) => line === `open ${node}`).length;
      assertEquals(opens("/dev/vfio/12"), path === "group" ? 1 : 0);
      assertEquals(opens("/dev/iommu"), path === "cdev" ? 1 : 0);
      assertStrictEquals(one.dma, two.dma);
      const memory = one.dma.allocate(PAGE);
      one.close();
      assertThrows(() => one.dma, ClosedError);
      assertEquals(two.dma.usage.allocations, 1);
      two.dma.allocate(PAGE);
      two.close();
      assertEquals(memory.closed, true);
      assertEquals([...kernel.dma.values()].map((space) => space.size), [0]);
      openOn(kernel, PF, { path }).close();
    });
  });
}

Deno.test("functions of different groups share /dev/iommu and not the address space", () => {
  balanced(() => {
    const kernel = kernelWith(plain, { ...plain, address: VF, group: 13, cdev: "vfio5" });
    using one = openOn(kernel, PF, {});
    using two = openOn(kernel, VF, {});
    assertEquals([one.path, two.path], ["cdev", "cdev"]);
    assertEquals(one.dma === two.dma, false);
    // The first look whether /dev/iommu opens, twice; then once to keep.
    assertEquals(kernel.log.filter((line) => line === "open /dev/iommu").length, 3);
    assertEquals(kernel.log.filter((line) => line.includes("IOAS_ALLOC")).length, 2);
  });
});

Deno.test("whatever request fails while opening, nothing stays open, and the next try works", () => {
  const failures: Record<"group" | "cdev", string[]> = {
    group: [
      "VFIO_GET_API_VERSION",
      "VFIO_GROUP_GET_STATUS",
      "VFIO_GROUP_SET_CONTAINER",
      "VFIO_CHECK_EXTENSION",
      "VFIO_SET_IOMMU",
      "VFIO_IOMMU_GET_INFO",
      "VFIO_GROUP_GET_DEVICE_FD",
      "VFIO_DEVICE_GET_INFO",
    ],
    cdev: [
      "IOMMU_IOAS_ALLOC",
      "VFIO_DEVICE_BIND_IOMMUFD",
      "VFIO_DEVICE_ATTACH_IOMMUFD_PT",
      "IOMMU_IOAS_IOVA_RANGES",
      "VFIO_DEVICE_GET_INFO",
    ],
  };
  for (const path of ["group", "cdev"] as const) {
    const kernel = kernelWith(plain);
    for (const request of failures[path]) {
      balanced(() => {
        kernel.failOnce.set(request, "EIO");
        const error = assertThrows(
          () => openOn(kernel, PF, { path }),
          SyscallError,
        ) as SyscallError;
        assertEquals([error.call, error.code], [`ioctl ${request}`, "EIO"]);
      });
    }
    balanced(() => openOn(kernel, PF, { path }).close());
  }
});

Deno.test("a failed second open of a group leaves the first as it is", () => {
  balanced(() => {
    const kernel = kernelWith(plain, { ...plain, address: VF });
    using one = openOn(kernel, PF, { path: "group" });
    kernel.failOnce.set("VFIO_GROUP_GET_DEVICE_FD", "EIO");
    assertThrows(() => openOn(kernel, VF, { path: "group" }), SyscallError);
    one.dma.allocate(PAGE);
    assertEquals(one.closed, false);
  });
});

Deno.test("8.3 a group that is not viable names each member in the way and its driver", () => {
  balanced(() => {
    const kernel = kernelWith(
      plain,
      { address: "0000:00:1f.2", group: 12, driver: "ahci" },
      { address: "0000:00:1f.3", group: 12, driver: "snd_hda_intel" },
      { address: "0000:00:1c.0", group: 12, driver: "pcieport" },
      { address: "0000:00:1f.4", group: 12 },
      { address: "0000:05:00.0", group: 5, driver: "nvme" },
    );
    kernel.notViable.add(12);
    const error = assertThrows(
      () => openOn(kernel, PF, { path: "group" }),
      RefusedError,
    ) as RefusedError;
    assertEquals(
      error.message,
      "IOMMU group 12 is not viable: 0000:00:1f.2 is bound to ahci, 0000:00:1f.3 is bound to snd_hda_intel",
    );
    assert(error.hint.includes("bind 0000:00:1f.2 0000:00:1f.3"), error.hint);
  });
});

Deno.test("8.3 VF token, group path: in the device name; missing and wrong tokens say so", () => {
  balanced(() => {
    const kernel = kernelWith(vf);
    const missing = assertThrows(
      () => openOn(kernel, VF, { path: "group" }),
      RefusedError,
    ) as RefusedError;
    assertEquals(
      missing.message,
      `${VF} was not opened: a VF token is needed and none was given: it is the one that its PF ${PF} was opened with`,
    );
    assert(missing.hint.includes("vfToken"), missing.hint);
    const wrong = assertThrows(
      () => openOn(kernel, VF, { path: "group", vfToken: OTHER_TOKEN }),
      RefusedError,
      "the VF token is not the one",
    ) as RefusedError;
    assertEquals((wrong.cause as SyscallError).code, "EACCES");
    assertEquals(wrong.message.includes(OTHER_TOKEN), false);
    openOn(kernel, VF, { path: "group", vfToken: TOKEN.toUpperCase() }).close();
    assertEquals(kernel.deviceNames, [VF, `${VF} vf_token=${OTHER_TOKEN}`, `${VF} vf_token=${TOKEN}`]);
  });
});

Deno.test("8.3 VF token, cdev path: 16 bytes behind the bind structure's pointer, flag TOKEN, 24 bytes", () => {
  balanced(() => {
    const kernel = kernelWith(vf);
    assertThrows(() => openOn(kernel, VF, { path: "cdev" }), RefusedError, "a VF token is needed");
    assertThrows(
      () => openOn(kernel, VF, { path: "cdev", vfToken: OTHER_TOKEN }),
      RefusedError,
      "the VF token is not the one",
    );
    openOn(kernel, VF, { path: "cdev", vfToken: TOKEN }).close();
    const bind = kernel.arguments.get("VFIO_DEVICE_BIND_IOMMUFD")!.at(-1)!;
    const view = new DataView(bind.buffer);
    assertEquals([bind.length, view.getUint32(0, true), view.getUint32(4, true)], [24, 24, 1]);
  });
});

Deno.test("a token goes only to functions of SR-IOV, as sysfs or the caller says", () => {
  balanced(() => {
    const kernel = kernelWith(plain);
    openOn(kernel, PF, { path: "group", vfToken: TOKEN }).close();
    openOn(kernel, PF, { path: "cdev", vfToken: TOKEN }).close();
    assertEquals(kernel.deviceNames, [PF]);
    const refused = assertThrows(
      () => openOn(kernel, PF, { path: "group", vfToken: TOKEN, isSriov: true }),
      RefusedError,
      "takes no VF token",
    ) as RefusedError;
    assert(refused.hint.includes("without a token"), refused.hint);
    const onCdev = assertThrows(
      () => openOn(kernel, PF, { path: "cdev", vfToken: TOKEN, isSriov: true }),
      RefusedError,
    ) as RefusedError;
    assert(onCdev.hint.includes("use the group path"), onCdev.hint);
    const pf = kernelWith({ ...plain, isPf: true, token: vf.token! });
    openOn(pf, PF, { path: "group", vfToken: TOKEN }).close();
    assertEquals(pf.deviceNames, [`${PF} vf_token=${TOKEN}`]);
  });
});

Deno.test("cdev is taken when the node exists and /dev/iommu opens, not when sysfs alone knows a cdev", () => {
  balanced(() => {
    const kernel = kernelWith(plain);
    const path = () => {
      using device = openOn(kernel, PF, {});
      return device.path;
    };
    assertEquals(path(), "cdev");
    kernel.nodes.delete("/dev/iommu");
    assertEquals(path(), "group");
    kernel.nodes.add("/dev/iommu");
    kernel.nodes.delete("/dev/vfio/devices/vfio3");
    assertEquals(path(), "group");
    assertThrows(
      () => openOn(kernel, PF, { path: "cdev" }),
      UnsupportedError,
      "there is no node /dev/vfio/devices/vfio3",
    );
  });
});

Deno.test("functions that cannot be opened: one clear error each", () => {
  balanced(() => {
    const onIgb = kernelWith({ address: PF, group: 12, driver: "igb" }, { address: VF, group: 13 });
    const bound = assertThrows(() => openOn(onIgb, PF, {}), UsageError) as UsageError;
    assertEquals(bound.message, `${PF} is bound to igb, not to a VFIO driver`);
    assertEquals(bound.hint, `ringside bind ${PF}`);
    assertThrows(() => openOn(onIgb, VF, {}), UsageError, "bound to no driver");
    assertThrows(() => openOn(onIgb, "0000:09:00.0", {}), NotFoundError, "0000:09:00.0");
    assertThrows(() => openOn(onIgb, "nonsense", {}), UsageError, "not a PCI address");
    assertThrows(() => openOn(kernelWith(plain), PF, { vfToken: "x" }), UsageError, "not a UUID");

    const noGroup = kernelWith({ ...plain, group: -1 });
    assertThrows(() => openOn(noGroup, PF, {}), UnsupportedError, "no IOMMU group");

    const noNode = kernelWith(plain);
    noNode.nodes.delete("/dev/vfio/12");
    assertThrows(
      () => openOn(noNode, PF, { path: "group" }),
      SyscallError,
      "open /dev/vfio/12: ENOENT",
    );

    const otherVersion = kernelWith(plain);
    otherVersion.apiVersion = 1;
    assertThrows(() => openOn(otherVersion, PF, { path: "group" }), UnsupportedError, "version 1");

    const noType1 = kernelWith(plain);
    noType1.extensions = [1];
    assertThrows(() => openOn(noType1, PF, { path: "group" }), UnsupportedError, "type 3");

    const notPci = kernelWith(plain);
    notPci.deviceFlags = 4;
    assertThrows(
      () => openOn(notPci, PF, { path: "group" }),
      UnsupportedError,
      "not a PCI function",
    );

    const endless = kernelWith(plain);
    let n = 1;
    Object.defineProperty(endless, "iovaRanges", { get: () => new Array(n++).fill([0n, 1n]) });
    assertThrows(() => openOn(endless, PF, { path: "cdev" }), ProtocolError, "more IOVA ranges");
  });
});

Deno.test("no-IOMMU mode: only by its full name, its own node and type; no DMA memory there", () => {
  balanced(() => {
    const kernel = kernelWith(plain);
    kernel.nodes.delete("/dev/vfio/12");
    kernel.nodes.add("/dev/vfio/noiommu-12");
    kernel.extensions = [8];
    const refused = assertThrows(
      () => openOn(kernel, PF, { path: "group" }),
      RefusedError,
    ) as RefusedError;
    assert(refused.hint.includes("enableUnsafeNoIommuMode"), refused.hint);
    {
      using device = openOn(kernel, PF, { enableUnsafeNoIommuMode: true });
      assertEquals(device.path, "group");
      assertEquals(kernel.log.includes("open /dev/vfio/noiommu-12"), true);
      assertThrows(() => device.dma.allocate(PAGE), UnsupportedError, "no DMA memory in no-IOMMU mode");
      assert(!device.dma.mapper.iommu);
      assertEquals(device.dma.usage.allocations, 0);
    }
    assertThrows(
      () => openOn(kernel, PF, { path: "cdev", enableUnsafeNoIommuMode: true }),
      UnsupportedError,
      "group path only",
    );
    const withIommu = assertThrows(
      () => openOn(kernelWith(plain), PF, { enableUnsafeNoIommuMode: true }),
      UnsupportedError,
    ) as UnsupportedError;
    assert(withIommu.hint.includes("behind an IOMMU"), withIommu.hint);
  });
});

/** A kernel from which a function goes before one of the requests. */
class LeavingKernel extends FakeKernel {
  #requests = 0;

  constructor(readonly fn: FakeFunction, readonly request: number, readonly way: "unbound" | "removed") {
    super();
    this.add(fn);
  }

  #leave(): void {
    if (++this.#requests !== this.request) return;
    const { address, group, driver: _driver, cdev, ...rest } = this.fn;
    this.functions.splice(0);
    if (this.way === "unbound") this.functions.push({ address, group, ...rest });
    this.nodes.delete(`/dev/vfio/${group}`);
    this.nodes.delete(`/dev/vfio/devices/${cdev}`);
  }

  override openNode(path: string): OwnedFd {
    this.#leave();
    return super.openNode(path);
  }

  override ioctlBuffer(...args: Parameters<FakeKernel["ioctlBuffer"]>): number {
    this.#leave();
    return super.ioctlBuffer(...args);
  }

  override ioctlPointing(...args: Parameters<FakeKernel["ioctlPointing"]>): number {
    this.#leave();
    return super.ioctlPointing(...args);
  }
}

for (const path of ["group", "cdev", undefined] as const) {
  Deno.test(`a function that is unbound or removed while it is opened (${path ?? "either path"}) was taken away, whatever the kernel says`, () => {
    balanced(() => {
      for (const way of ["unbound", "removed"] as const) {
        for (const vfToken of [undefined, TOKEN]) {
          let refused = 0, request = 1;
          for (; request < 30; request++) {
            const kernel = new LeavingKernel(plain, request, way);
            try {
              openOn(kernel, PF, { path, vfToken }).close();
              if (kernel.functions[0] === plain) break;
            } catch (error) {
              if (!(error instanceof RemovalRequestedError)) {
                throw new Error(`request ${request}`, { cause: error });
              }
              assertStringIncludes(error.message, PF);
              if (error.message.includes("was not opened")) assertStringIncludes(error.message, way);
              refused++;
            }
          }
          assert(refused >= 3 && request < 30, `${refused} times until request ${request}`);
        }
      }
    });
  });
}

Deno.test("a function that VFIO gives to nobody any more, though it still has its driver, is being taken away", () => {
  balanced(() => {
    const kernel = kernelWith(plain);
    kernel.failOnce.set("VFIO_GROUP_GET_DEVICE_FD", "ENODEV");
    assertThrows(() => openOn(kernel, PF, { path: "group" }), RemovalRequestedError, "meanwhile");
    openOn(kernel, PF, { path: "group" }).close();
  });
});

Deno.test("the running kernel: a function that is not there; one that is and is not on VFIO", () => {
  balanced(() => {
    const missing = assertThrows(() => openKernelDevice("ffff:ff:1f.7"), NotFoundError) as NotFoundError;
    assertEquals(missing.message, "there is no PCI function ffff:ff:1f.7");
    const folder = "/sys/bus/pci/devices";
    for (const { name } of accessible(folder) ? readDirectory(folder) : []) {
      if (accessible(`${folder}/${name}/vfio-dev`)) continue;
      const error = assertThrows(
        () => openKernelDevice(name),
        UsageError,
        "not to a VFIO driver",
      ) as UsageError;
      assert(error.hint.startsWith(`ringside bind ${name}`), error.hint);
    }
  });
});
