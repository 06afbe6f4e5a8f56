/** A vfio-user socket as a host of one function. */
import { assertEquals, assertInstanceOf, assertStringIncludes, assertThrows } from "@std/assert";
import { createMemfd, openFdCount, removeFile, UnixListener } from "../../../ffi/mod.ts";
import {
  ClosedError,
  NotFoundError,
  PeerGoneError,
  ProtocolError,
  RefusedError,
  TimeoutError,
  UnsupportedError,
  UsageError,
} from "../../../lib/errors/mod.ts";
import { openHost } from "../../../lib/host/mod.ts";
import type { EmulatedHost } from "../../../lib/host/emulated_host.ts";
import { VfioUserHost } from "../../../lib/host/vfio_user_host.ts";
import { PciModernTransport } from "../../../lib/virtio/transport/pci_modern.ts";
import { VirtioNet } from "../../../drivers/net/virtio_net.ts";
import { testSocketPath } from "../../unit/sockets/vfio_user/raw_client.ts";
import { cli } from "../cli/run_cli.ts";
import { ServedHost } from "./served_host.ts";

const FUNCTION = "0000:00:00.0";

/** The socket of a function of an emulated host: a plain one to whoever does not know the host. */
function socketOf(host: EmulatedHost, directory: string): { path: string; address: string } {
  const { address } = host.list().find((one) => one.sriov !== undefined)!;
  host.bind(address);
  return { path: `${directory}/${address}.sock`, address };
}

Deno.test("a vfio-user socket is a host of one function, which is listed, read and driven", async () => {
  await using served = await ServedHost.start();
  using emulated = served.connect();
  const { path, address } = socketOf(emulated, served.directory);
  const before = openFdCount();
  {
    using host = openHost(`vfio-user:${path}`);
    assertInstanceOf(host, VfioUserHost);
    const { groupMembers: _, iommuGroup: _group, sriov: _sriov, driverOverride: _override, ...known } =
      emulated.describe(address);
    assertEquals(host.list(), [{
      ...known,
      address: FUNCTION,
      driver: "vfio-user",
      groupMembers: [],
      numaNode: -1,
    }]);
    assertEquals(host.readConfig(FUNCTION), emulated.readConfig(address));
    assertEquals(host.barSizes("00:00.0"), emulated.barSizes(address));
    assertEquals(host.examine().map(({ state }) => state), ["ok"]);
    {
      using device = host.open(FUNCTION);
      assertEquals(device.name, FUNCTION);
      assertThrows(() => host.open(FUNCTION), RefusedError, "in use by this process");
      assertThrows(() => openHost(`vfio-user:${path}`), RefusedError, "another client");
      await using net = await VirtioNet.open(PciModernTransport.open(device));
      assertEquals(net.mac.byteLength, 6);
    }
    using again = host.open(FUNCTION, { timeoutMs: 60_000 });
    assertEquals(again.closed, false);
  }
  assertEquals(openFdCount(), before);
});

Deno.test("a vfio-user host says what it lacks", async () => {
  await using served = await ServedHost.start();
  using emulated = served.connect();
  const { path } = socketOf(emulated, served.directory);
  const host = VfioUserHost.connect(path);
  for (const call of ["bind", "setVfCount", "restore", "journal"] as const) {
    assertThrows(() => host[call](), UnsupportedError, `vfio-user:${path}: a vfio-user socket has no `);
  }
  assertThrows(() => host.describe("0000:01:00.0"), NotFoundError, "no PCI function 0000:01:00.0");
  assertThrows(() => host.open("nonsense"), UsageError);
  host[Symbol.dispose]();
  assertThrows(() => host.list(), ClosedError);
});

Deno.test("what cannot be connected to is told apart", () => {
  const before = openFdCount();
  const connect = (path: string) => VfioUserHost.connect(path, 30);
  assertThrows(() => openHost("vfio-user:"), UsageError, "named by its socket");
  assertThrows(() => connect("/nowhere/at.sock"), NotFoundError, "there is no socket /nowhere/at.sock");
  assertThrows(() => connect("/proc/self/exe"), NotFoundError, "is no socket");
  assertThrows(() => connect("/proc"), NotFoundError, "is no socket");
  {
    using listener = UnixListener.listen(testSocketPath());
    assertStringIncludes(
      assertThrows(() => connect(listener.path), TimeoutError, listener.path).hint,
      "the socket of a vfio-user server",
    );
    using file = createMemfd("none", 4096);
    assertThrows(() => connect(`/proc/self/fd/${file.number}`), NotFoundError, "is no socket");
  }
  assertEquals(openFdCount(), before);
});

Deno.test("a server of another protocol is one, on the command line, too", async () => {
  const path = testSocketPath();
  const child = new Deno.Command(Deno.execPath(), {
    args: [
      ...["run", "--quiet", "--no-check", "--allow-ffi"],
      ...[new URL("./greeting.ts", import.meta.url).pathname, path, '{"QMP": {"version": {}}}\r\n'],
    ],
    stdin: "null",
    stdout: "piped",
  }).spawn();
  const reader = child.stdout.getReader();
  await reader.read();
  assertThrows(() => VfioUserHost.connect(path), ProtocolError, path);
  const { code, out, err } = await cli("--json", "--host", `vfio-user:${path}`, "list");
  assertEquals([code, JSON.parse(out).error.type], [1, "ProtocolError"]);
  assertStringIncludes(err, "is this the socket of a vfio-user server");
  child.kill("SIGKILL");
  await child.status;
  await reader.cancel();
  assertThrows(() => VfioUserHost.connect(path), PeerGoneError, `nobody listens on ${path}`);
  removeFile(path);
});
