import { assert, assertEquals, assertThrows } from "@std/assert";
import {
  accessible,
  Epoll,
  EventFd,
  makeDirectory,
  readDirectory,
  readText,
  removeDirectory,
  removeFile,
  SyscallError,
  UnixSocket,
} from "../../../ffi/mod.ts";
import { PeerGoneError } from "../../../lib/errors/mod.ts";
import { SocketSysfs } from "../../../lib/host/sysfs/socket_sysfs.ts";
import { IRQ, REGION } from "../../../lib/vfio/device.ts";
import { VfioUserDevice } from "../../../lib/sockets/vfio_user/client/device.ts";
import { DOORBELL_OFFSET, RAISE_OFFSET, RINGS_OFFSET } from "../../unit/emulation/machine_scratch.ts";

const PF = "0000:01:00.0";
const VF = "0000:01:00.1";
const RNG = "0000:02:00.0";
const MANAGEMENT = "0000:03:00.0";
const SRIOV_CONTROL = 0x148 + 8;
const NUM_VFS = 0x148 + 0x10;
const DEVICES = "/sys/bus/pci/devices";
const FIXTURE = new URL("./scratch_host.ts", import.meta.url).pathname;
const ATTEMPTS = 3000;

let made = 0;

/** A directory of this test, and the processes that serve it. */
class Rig implements AsyncDisposable {
  readonly directory = `/tmp/ringside-machine-${Deno.pid}-${made++}`;
  #children: { child: Deno.ChildProcess; status: Promise<Deno.CommandStatus> }[] = [];

  constructor() {
    makeDirectory(this.directory, 0o700);
  }

  spawn(): { child: Deno.ChildProcess; status: Promise<Deno.CommandStatus>; errors: Promise<string> } {
    const child = new Deno.Command(Deno.execPath(), {
      args: ["run", "--quiet", "--no-check", "--allow-ffi", FIXTURE, this.directory],
      stdin: "null",
      stdout: "null",
      stderr: "piped",
    }).spawn();
    const errors = new Response(child.stderr).text();
    const one = { child, status: child.status, errors };
    this.#children.push(one);
    return one;
  }

  async start(): Promise<{ child: Deno.ChildProcess; status: Promise<Deno.CommandStatus> }> {
    const one = this.spawn();
    let ended = false;
    one.status.then(() => ended = true);
    for (let i = 0; !accessible(`${this.directory}/ready`); i++) {
      if (ended || i === ATTEMPTS) {
        throw new Error(`the host did not come up: ${ended ? await one.errors : "slow"}`);
      }
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    return one;
  }

  get names(): string[] {
    return readDirectory(this.directory).map((entry) => entry.name);
  }

  sysfs(): SocketSysfs {
    return new SocketSysfs(`${this.directory}/host.sock`, 20_000);
  }

  open(address: string): VfioUserDevice {
    return VfioUserDevice.connect(`${this.directory}/${address}.sock`, { name: address, timeoutMs: 20_000 });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const { child, status } of this.#children) {
      try {
        child.kill("SIGKILL");
      } catch {
        // It has ended.
      }
      await status;
    }
    for (const name of this.names) removeFile(`${this.directory}/${name}`);
    removeDirectory(this.directory);
  }
}

function bind(sysfs: SocketSysfs, address: string): void {
  sysfs.writeText(`${DEVICES}/${address}/driver_override`, "vfio-pci");
  const driver = sysfs.readLink(`${DEVICES}/${address}/driver`).split("/").at(-1);
  sysfs.writeText(`/sys/bus/pci/drivers/${driver}/unbind`, address);
  sysfs.writeText("/sys/bus/pci/drivers_probe", address);
}

function errno(run: () => void): string {
  return assertThrows(run, SyscallError).code;
}

function wait(fd: EventFd): void {
  using epoll = new Epoll();
  epoll.add(fd.fd, 1);
  assertEquals(epoll.waitBlocking(20_000), 1, "the interrupt did not arrive");
  assert(fd.take() > 0);
}

Deno.test("a served host is listed, bound, given VFs, opened, and stops without a trace", async () => {
  await using rig = new Rig();
  const { child, status } = await rig.start();
  {
    using sysfs = rig.sysfs();
    assertEquals(sysfs.list(DEVICES), [PF, RNG, MANAGEMENT]);
    assertEquals(sysfs.readText(`${DEVICES}/${PF}/class`), "0x020000");
    assertEquals(sysfs.readBytes(`${DEVICES}/${PF}/config`).byteLength, 4096);
    assertEquals(sysfs.readText("/ringside/pid"), `${child.pid}`);
    assertEquals(readText(`${rig.directory}/ready`).trim(), `${child.pid}`);
    assertEquals(errno(() => rig.open(PF)), "ENOENT", "there is no socket before vfio-pci has it");
    bind(sysfs, PF);
    sysfs.writeText(`${DEVICES}/${PF}/sriov_numvfs`, "2");
    assertEquals(sysfs.list(DEVICES), [PF, VF, "0000:01:00.2", RNG, MANAGEMENT]);
    assertEquals(errno(() => sysfs.writeText(`${DEVICES}/${PF}/sriov_numvfs`, "1")), "EBUSY");
    for (const address of [PF, VF]) {
      using device = rig.open(address);
      const id = new Uint8Array(4);
      device.readRegion(REGION.config, 0, id);
      assertEquals([...id], [0xf4, 0x1a, 0x41, 0x10], address);
      assertEquals(errno(() => sysfs.writeText("/sys/bus/pci/drivers/vfio-pci/unbind", address)), "EBUSY");
    }
    sysfs.writeText("/ringside/stop", "1");
  }
  assert((await status).success);
  assertEquals(rig.names, ["host.lock"]);
});

Deno.test("over the socket: registers, MSI-X by eventfd, a doorbell by eventfd, the request interrupt", async () => {
  await using rig = new Rig();
  await rig.start();
  using sysfs = rig.sysfs();
  bind(sysfs, PF);
  using device = rig.open(PF);
  const command = new Uint8Array(2);
  device.readRegion(REGION.config, 4, command);
  assertEquals(command[0], 2, "memory decoding is on for the user");
  device.writeRegion(REGION.config, 4, Uint8Array.of(6, 0));
  device.writeRegion(0, 0x20, Uint8Array.of(1, 2, 3, 4));
  const back = new Uint8Array(4);
  device.readRegion(0, 0x20, back);
  assertEquals([...back], [1, 2, 3, 4]);
  using vector = new EventFd();
  device.setIrqs({ index: IRQ.msix, action: "trigger", start: 2, eventFds: [vector] });
  device.writeRegion(0, RAISE_OFFSET, Uint8Array.of(2));
  wait(vector);
  const doorbell = device.doorbellFd(0, DOORBELL_OFFSET, 2);
  if (doorbell === undefined) throw new Error("no doorbell is offered");
  doorbell.fd.signal();
  // The machine takes doorbells and messages in any order, so the count may be seen by a later read only.
  const rings = new Uint8Array(1);
  for (let i = 0; rings[0] === 0 && i < ATTEMPTS; i++) device.readRegion(0, RINGS_OFFSET, rings);
  assertEquals(rings[0], 1);
  using request = new EventFd();
  device.setIrqs({ index: IRQ.request, action: "trigger", start: 0, eventFds: [request] });
  assertEquals(errno(() => sysfs.writeText("/sys/bus/pci/drivers/vfio-pci/unbind", PF)), "EBUSY");
  wait(request);
});

Deno.test("VF Enable cleared by config write: the VF is gone, and its client learns it in an orderly way", async () => {
  await using rig = new Rig();
  await rig.start();
  using sysfs = rig.sysfs();
  bind(sysfs, PF);
  using pf = rig.open(PF);
  pf.writeRegion(REGION.config, NUM_VFS, Uint8Array.of(1, 0));
  pf.writeRegion(REGION.config, SRIOV_CONTROL, Uint8Array.of(9, 0));
  assertEquals(sysfs.readText(`${DEVICES}/${PF}/sriov_numvfs`), "1");
  using vf = rig.open(VF);
  pf.writeRegion(REGION.config, SRIOV_CONTROL, Uint8Array.of(0, 0));
  assert(!sysfs.exists(`${DEVICES}/${VF}`));
  assert(!rig.names.includes(`${VF}.sock`));
  assertThrows(() => vf.readRegion(REGION.config, 0, new Uint8Array(4)), PeerGoneError);
  pf.readRegion(REGION.config, 0, new Uint8Array(4));
  pf.writeRegion(REGION.config, NUM_VFS, Uint8Array.of(5, 0));
  pf.writeRegion(REGION.config, SRIOV_CONTROL, Uint8Array.of(9, 0));
  const violations = sysfs.readText("/ringside/violations").split("\n").map((line) => JSON.parse(line));
  assertEquals(violations.map((one) => [one.function, one.rule]), [[PF, "PCIe 9.3.3.3.1"]]);
});

Deno.test("kill -9, then a restart in the same directory: what was left behind is replaced", async () => {
  await using rig = new Rig();
  const first = await rig.start();
  using held = rig.sysfs();
  {
    bind(held, PF);
    held.writeText(`${DEVICES}/${PF}/sriov_numvfs`, "1");
  }
  first.child.kill("SIGKILL");
  await first.status;
  assertThrows(() => held.list(DEVICES), PeerGoneError);
  assertEquals(rig.names, [`${PF}.sock`, `${VF}.sock`, "host.lock", "host.sock", "ready"]);
  removeFile(`${rig.directory}/ready`);
  const second = await rig.start();
  using sysfs = rig.sysfs();
  assertEquals(sysfs.list(DEVICES), [PF, RNG, MANAGEMENT]);
  assertEquals(rig.names, ["host.lock", "host.sock", "ready"], "no socket of a function that nobody offers");
  bind(sysfs, PF);
  rig.open(PF).close();
  second.child.kill("SIGTERM");
  assert((await second.status).success, "SIGTERM is an orderly stop");
  assertEquals(rig.names, ["host.lock"]);
});

Deno.test("a directory that is served is refused to a second process, which says by whom", async () => {
  await using rig = new Rig();
  const first = await rig.start();
  const second = rig.spawn();
  assertEquals((await second.status).code, 3);
  assert((await second.errors).includes(`is served by process ${first.child.pid}`));
  using sysfs = rig.sysfs();
  assertEquals(sysfs.readText("/ringside/pid"), `${first.child.pid}`);
});

Deno.test("many clients at once; one that talks nonsense loses its connection and nobody else does", async () => {
  await using rig = new Rig();
  await rig.start();
  const clients = Array.from({ length: 20 }, () => rig.sysfs());
  const nonsense = ["\xff\xff\xff\xff", "\x02\0\0\0{}", "\x03\0\0\0xyz", '\x0d\0\0\0{"op":"trash"}'];
  for (const text of nonsense) {
    using socket = UnixSocket.connect(`${rig.directory}/host.sock`);
    socket.setTimeoutMs(20_000);
    socket.send(Uint8Array.from(text, (character) => character.charCodeAt(0)));
    assertEquals(socket.receive(new Uint8Array(16))!.length, 0, JSON.stringify(text));
  }
  using partial = UnixSocket.connect(`${rig.directory}/host.sock`);
  partial.send(Uint8Array.of(200, 0));
  for (const client of clients) assertEquals(client.readText(`${DEVICES}/${RNG}/vendor`), "0x1af4");
  assertEquals(errno(() => clients[0]!.readText("/sys/nothing")), "ENOENT");
  assertEquals(clients[0]!.exists("/sys/nothing"), false);
  for (const client of clients) client.close();
});

Deno.test("a client that leaves without a word leaves the function free, and as after power-on", async () => {
  await using rig = new Rig();
  await rig.start();
  using sysfs = rig.sysfs();
  bind(sysfs, PF);
  for (let i = 0; i < 3; i++) {
    using device = rig.open(PF);
    device.writeRegion(REGION.config, 4, Uint8Array.of(6, 0));
    const command = new Uint8Array(2);
    device.readRegion(REGION.config, 4, command);
    assertEquals(command[0], 6);
    device.close();
    using again = rig.open(PF);
    again.readRegion(REGION.config, 4, command);
    assertEquals(command[0], 2, "as after power-on");
  }
});
