import { assert, assertEquals, assertMatch } from "@std/assert";
import { TopologyHost } from "../drivers/topology_host.ts";
import { cli, type CliResult, startCli } from "./run_cli.ts";

const MANAGEMENT = "0000:03:00.0";
const SMALL = "0000:04:00.0";
const OTHER = "0000:05:00.0";
const PF = "0000:01:00.0";
const RNG = "0000:02:00.0";

const serve = () =>
  TopologyHost.start([
    { address: PF, kind: "virtio-net", totalVfs: 2, switch: "s0" },
    { address: RNG, kind: "virtio-rng" },
    {
      address: MANAGEMENT,
      kind: "virtio-management",
      switch: "s0",
      featuresOn: ["VIRTIO_F_NOTIFICATION_DATA"],
    },
    { address: SMALL, kind: "virtio-management", virtqueues: 4, minQueues: 2, maxQueues: 2, switch: "s0" },
    {
      address: OTHER,
      kind: "virtio-management",
      layout: "packed",
      header: "tight",
      transportBit: 46,
      managedBit: 47,
    },
  ]);

function json<T = Record<string, unknown>>({ code, out, err }: CliResult, says = /^$/): T {
  assertEquals(code, 0, err);
  assertMatch(err, says);
  return JSON.parse(out);
}

function text({ code, out, err }: CliResult): string {
  assertEquals([code, err], [0, ""]);
  return out;
}

function failed({ code, out, err }: CliResult, status: number, says: RegExp): void {
  assertEquals([code, out], [status, ""], err);
  assertMatch(err, says);
  assertEquals(err.split("\n").length, 2, "one line");
}

/** Without numbers that a command before this one may have used. */
const withoutId = ({ device, id, ...rest }: Record<string, unknown>) => {
  assertEquals(device, `${MANAGEMENT}/${id}`);
  return rest;
};

Deno.test("tvq on the embedded host, command by command", async (t) => {
  await using served = await serve();
  const { host } = served;
  const all = (...args: string[]) => cli("--host", host.name, ...args);
  const run = (...args: string[]) => all("tvq", MANAGEMENT, ...args);

  await t.step("what cannot be is told in a line, and changes nothing", async () => {
    failed(
      await run("resources"),
      2,
      /^ringside: 0000:03:00\.0 is bound to virtio-pci; .*bind 0000:03:00\.0\)/,
    );
    for (const address of [PF, RNG, MANAGEMENT, SMALL, OTHER]) host.bind(address);
    failed(await run(), 2, /tvq: no command; it needs one of resources, create,/);
    failed(await run("create"), 2, /DEVICE/);
    failed(await run("show", "tea"), 2, /"tea" is no type of managed device \(net, blk, rng, with /);
    failed(
      await run("create", "net", "net:colour=red"),
      2,
      /net has no attribute "colour" \(mac, mtu, pairs, /,
    );
    failed(await run("create", "net:mtu=9"), 2, /mtu: "9" \(a whole number from 68 to 65535\)/);
    failed(await run("create", "net:mtu=99,mtu=100"), 2, /net: mtu is there twice/);
    failed(await run("create", "net:mac=52-54"), 2, /mac: "52-54" \(write it as 52:54:/);
    failed(await run("create", "rng:asid=-1"), 2, /asid: "-1" \(a whole number from 0 to 4294967295\)/);
    failed(await run("create", "blk:sectors"), 2, /sectors: "" \(a whole number from 1 to/);
    failed(await run("create", "blk:readonly=yes"), 2, /readonly takes no value/);
    failed(await run("create", "rng:sectors=1"), 2, /rng has no attribute "sectors" \(features, asid\)/);
    failed(
      await run("create", "net", "--tvq", "layout=wide"),
      2,
      /--tvq layout: "wide" \(aligned or packed\)/,
    );
    failed(
      await run("create", "net", "--tvq", "colour=red"),
      2,
      /--tvq has no attribute "colour" \(layout, /,
    );
    failed(await all("tvq", "0000:09:00.0", "resources"), 2, /0000:09:00\.0/);
    failed(
      await all("tvq", RNG, "resources"),
      1,
      /0000:02:00\.0 is no management device: its virtio id is 4/,
    );
  });

  await t.step("what the device refuses is a typed error", async () => {
    // Bit 24 is nobody's; a disk that is larger than the device has memory for; more queues than are left.
    failed(
      await run("create", "net:features=0x101000000"),
      1,
      /device_features: MDEV_CREATE \(.*\): FEATURES/,
    );
    failed(await run("create", "rng:features=0"), 1, /MDEV_CREATE \(device type 4, features 0x0\): FEATURES/);
    failed(
      await run("show", "blk:sectors=0x10000000"),
      1,
      /dev_config: MDEV_CREATE \(device type 2, .*\): CONFIG/,
    );
    failed(
      await run("create", "rng:asid=17"),
      2,
      /0000:03:00\.0: address space 17 is not one of the server's/,
    );
    const many = Array.from({ length: 65 }, () => "rng");
    const { code, out } = await run("create", ...many, "--json");
    assertEquals(code, 1);
    const { error } = JSON.parse(out);
    assertEquals([error.type, error.location.function], ["ManagementCommandError", MANAGEMENT]);
    assertMatch(error.message, /RESOURCES/);
    assertMatch(error.hint, /destroy a device first/);
    // All of them went with the command.
    assertEquals(json<{ devices: number }>(await run("resources", "--json")).devices, 64);
  });

  await t.step("resources", async () => {
    assertEquals(
      text(await run("resources")),
      `${MANAGEMENT}: 64 virtqueues left, 1 to 16 a device; room for 64 devices\n`,
    );
    assertEquals(
      text(await all("tvq", SMALL, "resources")),
      `${SMALL}: 4 virtqueues left, 2 a device; room for 2 devices\n`,
    );
    assertEquals(json(await run("resources", "--json", "--interrupts", "none")), {
      function: MANAGEMENT,
      queues: 64,
      minQueues: 1,
      maxQueues: 16,
      devices: 64,
    });
  });

  await t.step("create, and destroy, which gives everything back", async () => {
    const made = await run("create", "net:mtu=1400", "blk:sectors=8192", "rng");
    assertEquals(made.code, 0);
    assertMatch(
      made.out,
      /^(0000:03:00\.0\/\d+): network device\n.*: block device\n.*: entropy source\n59 virtqueues left, 1 to 16 a device; room for 59 devices\n$/,
    );
    assertMatch(made.err, /they end with this command/);
    const report = json<{ devices: Record<string, unknown>[]; resources: { queues: number } }>(
      await run("create", "net:pairs=2", "rng", "--json"),
      /they end with this command/,
    );
    assertEquals(report.devices.map(withoutId), [
      { type: 1, typeName: "network device" },
      { type: 4, typeName: "entropy source" },
    ]);
    assertEquals(report.resources.queues, 64 - 5 - 1);

    assertMatch(
      text(await run("destroy", "net", "blk")),
      /^AFTER +VIRTQUEUES LEFT +DEVICES LEFT\ncreate net blk +60 +60\ndestroy .*\/\d+ +63 +63\ndestroy .* 64 +64\n$/,
    );
    const gone = json<{ resources: object; destroyed: { resources: { devices: number } }[] }>(
      await run("destroy", "rng", "rng", "--json"),
    );
    assertEquals(gone.destroyed.map(({ resources }) => resources.devices), [63, 64]);
  });

  await t.step("devices that are held, as the host shows them; an interrupt ends them", async () => {
    const holding = startCli({}, "--host", host.name, "tvq", MANAGEMENT, "create", "net", "rng", "--hold");
    const reader = holding.stdout.pipeThrough(new TextDecoderStream()).getReader();
    let out = "";
    while (!out.includes("room for")) out += (await reader.read()).value;
    interface List {
      source: string;
      devices: { deviceId: number; status: number; queues: number; enabled: number }[];
    }
    const { source, devices } = json<List>(await run("list", "--json"));
    assertEquals(source, "host");
    const rows = devices.map(({ deviceId, status, queues, enabled }) => [deviceId, status, queues, enabled]);
    assertEquals(rows, [[1, 0, 3, 0], [4, 0, 1, 0]]);
    failed(await run("resources"), 1, /0000:03:00\.0/);
    const net = (json<{ devices: { id: string }[] }>(await run("list", "--json"))).devices[0]!.id;
    const view = json(await all("queue", `03:00.0/${net}`, "--json"));
    assertEquals([view.function, view.deviceId, view.source], [`${MANAGEMENT}/${net}`, 1, "device"]);
    assertEquals((view.queues as object[]).length, 3);
    failed(
      await all("queue", "03:00.0/99999"),
      2,
      /0000:03:00\.0 has no managed device 99999 \(tvq 03:00\.0 list/,
    );
    holding.kill("SIGINT");
    const { code } = await holding.status;
    await reader.cancel();
    const err = await new Response(holding.stderr).text();
    assertEquals([code, err], [0, "2 devices held until interrupted\n"]);
    assertEquals(text(await run("list")), `${MANAGEMENT}: no managed devices\n`);
  });

  await t.step("list of devices that it makes, at rest and driven", async () => {
    assertMatch(
      text(await run("list", "net", "blk")),
      /^DEVICE +TYPE +STATUS +FEATURES +QUEUES +ENABLED\n0000:03:00\.0\/\d+ +network device +reset \(0x0\) +0x0 +3 +0\n.*block device .* 1 +0\n$/,
    );
    const { source, devices } = json<{ source: string; devices: Record<string, unknown>[] }>(
      await run("list", "net:pairs=2", "blk", "rng", "--drive", "--json"),
    );
    assertEquals(source, "function");
    // Two pairs are used when somebody asks for them.
    const rows = devices.map(({ deviceId, status, queues }) => [deviceId, status, queues]);
    assertEquals(rows, [[1, 15, 5], [2, 15, 1], [4, 15, 1]]);
    assert(devices.every(({ features, enabled }) => features !== "0x0" && (enabled as number) > 0));
  });

  await t.step("features by name: asked for, offered, shown, accepted", async () => {
    const rest = text(await run("features", "net:mtu=1400"));
    assertMatch(
      rest,
      /network device, status reset \(0x0\)\nBIT +FEATURE +ASKED FOR +OFFERED +SHOWN +ACCEPTED\n/,
    );
    assertMatch(rest, /\n3 +VIRTIO_NET_F_MTU +yes +yes +yes +-\n/);
    assertMatch(rest, /\n40 +VIRTIO_F_RING_RESET +yes +yes +yes +-\n/);
    // A feature that commands do not carry is offered, and not shown.
    const driven = text(await run("features", "net:features=0x4100000020", "--drive"));
    assertMatch(driven, /status ACKNOWLEDGE .* DRIVER_OK/);
    assertMatch(driven, /\n32 +VIRTIO_F_VERSION_1 +yes +yes +yes +yes\n/);
    assertMatch(driven, /\n38 +VIRTIO_F_NOTIFICATION_DATA +yes +yes +- +-\n/);
    const { asked, offered, accepted, status, features } = json(
      await run("features", "rng:features=0x100000000", "--json"),
    );
    assertEquals([asked, offered, accepted, status], ["0x100000000", "0x100000000", "0x0", 0]);
    assertEquals(features, [{ bit: 32, name: "VIRTIO_F_VERSION_1" }]);
  });

  await t.step("config by the device type's fields", async () => {
    const net = json<{ fields: { name: string; value: unknown }[]; generation: number }>(
      await run("config", "net:mac=52:54:00:12:34:56,mtu=9000,pairs=2", "--json"),
    );
    assertEquals(net.generation, 0);
    assertEquals(net.fields.map(({ name, value }) => [name, value]), [
      ["mac", "52:54:00:12:34:56"],
      ["status", 1],
      ["max_virtqueue_pairs", 2],
      ["mtu", 9000],
    ]);
    assertMatch(
      text(await run("config", "blk:sectors=0x2000,block-size=4096,queues=2")),
      /^.*: block device, configuration of generation 0\nOFFSET +WIDTH +FIELD +VALUE\n0 +8 +capacity +8192 \(0x2000\)\n20 +4 +blk_size +4096 [\s\S]*\n34 +2 +num_queues +2 /,
    );
    assertEquals(json<{ fields: unknown[] }>(await run("config", "rng", "--json")).fields, []);
  });

  await t.step("queues and their interrupts, at rest and driven", async () => {
    const off = { address: "0x0", data: 0, enabled: false, masked: false };
    assertEquals(withoutId(json(await run("queues", "rng", "--json"))), {
      function: MANAGEMENT,
      type: 4,
      typeName: "entropy source",
      queues: [{ queue: 0, size: 64, enabled: false, msi: off }],
      configMsi: off,
    });
    assertMatch(
      text(await run("queues", "net", "--drive")),
      /interrupt of the configuration message 2 to 0xfee00000\nQUEUE +SIZE +ENABLED +INTERRUPT\n0 +256 +yes +message 3 to 0xfee00000\n/,
    );
    assertMatch(
      text(await run("queues", "net", "--drive", "--interrupts", "none")),
      /configuration disabled\n.*\n0 +256 +yes +disabled\n/,
    );
  });

  await t.step("notify-area: addresses, and where in a BAR of the function they are", async () => {
    const { areas } = json<{ areas: Record<string, unknown>[] }>(await run("notify-area", "net", "--json"));
    assertEquals(areas.map(({ queue, bar }) => [queue, bar]), [[0, 4], [1, 4], [2, 4]]);
    assertEquals(new Set(areas.map(({ address }) => address)).size, 3);
    assertMatch(
      text(await run("notify-area", "rng")),
      /16 bits, the queue's number\nQUEUE +ADDRESS +BYTES +BAR +OFFSET\n0 +0x[0-9a-f]+ +4 +4 +0x[0-9a-f]+\n$/,
    );
  });

  await t.step("show, by either name", async () => {
    const shown = text(await run("show", "net:mtu=1400", "--drive"));
    assertMatch(shown, /^0000:03:00\.0\/\d+: network device\n\tVirtio: device 1 .*DRIVER_OK/);
    assertMatch(shown, /\n\t\t\tVIRTIO_NET_F_MTU\n[\s\S]*\n10 +2 +mtu +1400 [\s\S]*\n0 +256 +yes +message /);
    const both = [await run("show", "rng", "--json"), await all("show", `${MANAGEMENT}/rng`, "--json")];
    const [one, two] = both.map((result) => withoutId(json(result)));
    assertEquals(one, two);
    assertEquals(Object.keys(one!).sort(), ["config", "function", "queues", "type", "typeName", "virtio"]);
    assertEquals((one!.virtio as { profile: string }).profile, "transport-vq");
  });

  await t.step("a management function that differs is opened with --tvq", async () => {
    failed(await all("tvq", OTHER, "resources"), 1, /0000:05:00\.0 does not offer .*TRANSPT_VQ/);
    const settings = ["--tvq", "layout=packed,header=tight,bit=46,managed-bit=47,id=63,queue=0"];
    assertMatch(text(await all("tvq", OTHER, "list", "net", "--drive", ...settings)), /DRIVER_OK/);
    assertMatch(text(await all("rng", `${OTHER}/rng`, "8", ...settings)), /^[0-9a-f]{16}\n$/);
  });

  await t.step("whoever holds devices hears it when the process that serves them is gone", async () => {
    await using mortal = await TopologyHost.start([{ address: MANAGEMENT, kind: "virtio-management" }], {
      alone: true,
    });
    mortal.host.bind(MANAGEMENT);
    const holding = startCli({}, "--host", mortal.host.name, "tvq", MANAGEMENT, "create", "rng", "--hold");
    const reader = holding.stdout.pipeThrough(new TextDecoderStream()).getReader();
    let out = "";
    while (!out.includes("room for")) out += (await reader.read()).value;
    await mortal.kill();
    const { code } = await holding.status;
    await reader.cancel();
    const err = await new Response(holding.stderr).text();
    assertEquals(code, 1);
    assertMatch(
      err,
      /held until interrupted\nringside: 0000:03:00\.0: the process that serves it .* is gone\n$/,
    );
  });

  const ends = await served.stop();
  // What was refused above. Fields that no feature promises are not asked for (N-4.10).
  assertEquals([...new Set(ends.map(({ rule }) => rule))].sort(), ["A-4.16", "N-4.3"]);
});

Deno.test("commands that drive functions drive managed devices", async (t) => {
  await using served = await serve();
  const { host } = served;
  for (const address of [PF, MANAGEMENT, SMALL]) host.bind(address);
  const run = (...args: string[]) => cli("--host", host.name, ...args);

  await t.step("net: between two of one function, and with a VF of the same switch", async () => {
    const pair = json<Record<string, unknown>>(
      await run("net", "loop", "03:00.0/net", "03:00.0/net:pairs=2", "--count", "300", "--json"),
    );
    assertEquals([pair.from, pair.to], [`${MANAGEMENT}/1`, `${MANAGEMENT}/2`]);
    assertEquals([pair.frames, pair.interruptKind], [300, "msix"]);
    const [vf] = host.setVfCount(PF, 2);
    host.bind(vf!);
    for (
      const names of [[vf!, `${MANAGEMENT}/net`], [`${MANAGEMENT}/net`, vf!], [
        `${MANAGEMENT}/net`,
        `${SMALL}/net:features=0x110000020`,
      ]]
    ) {
      const done = await run("net", "loop", ...names, "--count", "500", "--interrupts", "none");
      assertMatch(text(done), /: 500 frames, 32000 bytes, every byte as sent; .*, polled\n$/);
    }
    failed(await run("net", "loop", vf!, vf!), 2, /cannot receive what it sends itself/);
  });

  await t.step("N-4.18: in address spaces of their own", async () => {
    const done = await run(
      "net",
      "loop",
      "03:00.0/net:asid=1",
      "03:00.0/net:asid=2",
      "--count",
      "100",
    );
    assertEquals(done.code, 0, done.err);
    assertMatch(done.out, /: 100 frames, 6400 bytes, every byte as sent/);
  });

  await t.step("blk, rng, queue", async () => {
    const info = json<Record<string, unknown>>(
      await run("blk", "info", "03:00.0/blk:sectors=2048,readonly", "--json"),
    );
    assertEquals([info.sectors, info.readOnly], [2048, true]);
    assertMatch(text(await run("blk", "read", "03:00.0/blk", "0", "1")), /^0{10} {2}0{64}\n/);
    assertMatch(text(await run("rng", "03:00.0/rng", "16")), /^[0-9a-f]{32}\n$/);
    for (const verb of ["save", "load"]) {
      failed(
        await run("queue", verb, "03:00.0/net", "states.json"),
        2,
        /03:00\.0\/net: queue states that outlive a reset .* \(VirtioNet\.suspend and moveManaged/,
      );
    }
    const queues = await run("queue", "03:00.0/net", "--json");
    const { deviceId, profile, source, queues: list } = json<Record<string, unknown>>(queues);
    assertEquals([deviceId, profile, source], [1, "transport-vq", "registers"]);
    assertEquals((list as { size: number }[]).map(({ size }) => size), [256, 256, 256]);
    const traced = await run("rng", "03:00.0/rng", "1", "--trace", "-");
    assertMatch(traced.err, /\n0000:03:00\.0\/\d+ write device_status 0x0f\n/);
  });

  await t.step("errors are those of functions", async () => {
    failed(await run("rng", "03:00.0/net"), 1, /0000:03:00\.0\/\d+ is no entropy device: its virtio id is 1/);
    failed(await run("rng", "03:00.0/"), 2, /"" is no type of managed device/);
    failed(await run("rng", "09:00.0/rng"), 2, /0000:09:00\.0/);
    failed(await run("rng", "02:00.0/rng"), 2, /0000:02:00\.0 is bound to virtio-pci/);
    failed(await run("bind", "03:00.0/net"), 2, /03:00\.0\/net/);
    const { code, out } = await run("blk", "info", "04:00.0/net", "--json");
    assertEquals([code, JSON.parse(out).error.type], [1, "ManagementCommandError"]);
  });

  assertEquals(await served.stop(), []);
});
