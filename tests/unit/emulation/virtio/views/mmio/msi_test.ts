/** MSI of both drafts from the device's side, register by register (N-7.1 to N-7.5, N-7.9, A-7.5, A-7.6, A-7.10 to ). */
import { assertEquals } from "@std/assert";
import { type FakeMmio, mmioRng, REG, RULES } from "./rig.ts";

const MSI = 1n << 40n;
/** Where a message is the interrupt controller's, and not memory. */
const CONTROLLER = 0xfee0_0000;
const V3 = { status: 0x0c0, cmd: 0x0c2, address: 0x0c4, data: 0x0cc } as const;
const V2 = { vecNum: 0x0c0, state: 0x0c4, cmd: 0x0c8, vecSel: 0x0d0, addr: 0x0d4, data: 0x0dc } as const;
const COMMAND = {
  enable: 1,
  disable: 2,
  configure: 3,
  mask: 4,
  unmask: 5,
  mapConfig: 6,
  mapQueue: 7,
} as const;
const NONE = 0xffff_ffff;

/** A form of MSI as its driver uses it. */
interface Form {
  readonly name: string;
  make(): FakeMmio;
  readonly features: bigint;
  /** Gives a vector the message that raises vector `data` of the function. */
  configure(device: FakeMmio, vector: number, data: number, address?: number): void;
  enable(device: FakeMmio, on: boolean): void;
  enabled(device: FakeMmio): boolean;
}

const v3: Form = {
  name: "v3",
  make: () => mmioRng({ form: "v3" }),
  features: 0n,
  configure(device, vector, data, address = CONTROLLER) {
    device.write64(V3.address, BigInt(address));
    device.write(V3.data, data);
    device.write(V3.cmd, 1 << 12 | vector, 2);
  },
  enable: (device, on) => device.write(V3.cmd, 2 << 12 | (on ? 1 : 0), 2),
  enabled: (device) => (device.read(V3.status, 2) & 0x8000) !== 0,
};

function v2(sharing: boolean): Form {
  return {
    name: sharing ? "msi-v2, sharing" : "msi-v2",
    make: () => mmioRng({ form: "msi-v2", sharing }),
    features: MSI,
    configure(device, vector, data, address = CONTROLLER) {
      device.write(V2.vecSel, vector);
      device.write64(V2.addr, BigInt(address));
      device.write(V2.data, data);
      device.write(V2.cmd, COMMAND.configure);
    },
    enable: (device, on) => device.write(V2.cmd, on ? COMMAND.enable : COMMAND.disable),
    enabled: (device) => (device.read(V2.state) & 1) !== 0,
  };
}

const FORMS = [v3, v2(false), v2(true)];

/** A command on one vector. */
function command(device: FakeMmio, vector: number, value: number): void {
  device.write(V2.vecSel, vector);
  device.write(V2.cmd, value);
}

/** Up to DRIVER_OK: vector 0 for the configuration, 1 for queue 0. */
function bringUp({ features, configure, enable, name }: Form, device: FakeMmio): void {
  device.negotiate(RULES | features);
  configure(device, 0, 0);
  configure(device, 1, 1);
  if (name.endsWith("sharing")) {
    command(device, 0, COMMAND.mapConfig);
    device.write(REG.queueSel, 0);
    command(device, 1, COMMAND.mapQueue);
  }
  enable(device, true);
  device.enable(0);
  device.status = 15;
}

/** One request; its used buffer notification is due. */
function request(device: FakeMmio): void {
  device.offer();
  device.view.rang(0, 0x50, 0);
  device.run();
}

for (const form of FORMS) {
  Deno.test(`N-7.1, N-7.4, A-7.10: ${form.name}: queue 0 has vector 1; InterruptStatus stays 0 and the line low, and a reset turns it off`, () => {
    using device = form.make();
    bringUp(form, device);
    assertEquals([form.enabled(device), device.port.take()], [true, []]);
    request(device);
    assertEquals([device.port.messages.splice(0), device.port.rises], [[1], 0]);
    assertEquals(device.read(REG.interruptStatus), 0);
    // Ignored: nothing is said of bits without meaning either.
    device.write(REG.interruptAck, 0xff);
    assertEquals(device.port.take(), [
      "N-7.2: InterruptStatus was read while MSI is enabled",
      "N-7.2: InterruptACK was written while MSI is enabled",
    ]);
    // A violation is what changes the configuration's status.
    device.write(REG.queueNotify, 9);
    assertEquals(device.port.messages.splice(0), [0]);
    device.status = 0;
    assertEquals(form.enabled(device), false);
    device.port.take();
    device.bringUp(RULES | form.features);
    request(device);
    assertEquals([device.port.messages, device.read(REG.interruptStatus), device.port.line], [[], 1, true]);
    assertEquals(device.port.take(), [], "MSI that is off is the line: N-7.3");
  });

  Deno.test(`A-7.12: ${form.name}: address and data are latched by the command, and by nothing else`, () => {
    using device = form.make();
    bringUp(form, device);
    for (
      const [register, value] of form === v3
        ? [[V3.address, 0x1234_5670], [V3.data, 77]] as const
        : [[V2.addr, 0x1234_5670], [V2.data, 77]] as const
    ) device.write(register, value);
    request(device);
    assertEquals([device.port.messages.splice(0), device.port.take()], [[1], []], "as before");
    form.configure(device, 1, 0);
    request(device);
    assertEquals([device.port.messages.splice(0), device.port.take()], [[0], []], "another message");
  });

  Deno.test(`${form.name}: a message to any other address is a write into the driver's memory; what is not mapped is reported`, () => {
    using device = form.make();
    bringUp(form, device);
    const at = device.client.allocate(4096, 4096);
    form.configure(device, 1, 0xcafe_f00d, Number(device.client.at(at)) + 8);
    request(device);
    assertEquals(device.client.view.getUint32(at + 8, true), 0xcafe_f00d);
    // Memory that no mapping shares: what is written is brought there.
    const far: [bigint, number[]][] = [];
    device.client.dma.addFar({
      ...{ iova: 0x2_0000_0000n, sizeBytes: 4096, deviceReads: true, deviceWrites: true },
      read: () => true,
      write: (address, from) => far.push([address, [...from]]) > 0,
      close: () => {},
    });
    form.configure(device, 1, 0x0403_0201, 0x2_0000_0010);
    request(device);
    assertEquals(far, [[0x2_0000_0010n, [1, 2, 3, 4]]]);
    form.configure(device, 1, 1, 0x1_7000_0000);
    request(device);
    assertEquals(device.port.take().map((one) => one.split(" ").slice(0, 4).join(" ")), [
      "DMA: MSI address 0x170000000:",
    ]);
    form.configure(device, 1, 2);
    request(device);
    assertEquals(device.port.take(), [
      `${form === v3 ? "7.2" : "7.3"}: MSI data 2: the function uses 2 vectors`,
    ]);
    form.configure(device, 1, 1, CONTROLLER + 2);
    assertEquals(device.port.take(), [
      `${form === v3 ? "7.2" : "7.3"}: vector 1: address 0xfee00002 is no multiple of 4`,
    ]);
    assertEquals(device.port.messages, []);
    assertEquals(device.status, 15, "none of it stops the device");
  });

  Deno.test(`N-7.4: ${form.name}: MSI enabled before a vector is configured, a vector configured afterwards, and one that never was`, () => {
    using device = form.make();
    device.negotiate(RULES | form.features);
    form.enable(device, true);
    form.configure(device, 1, 1);
    assertEquals(device.port.take(), [
      "N-7.4: MSI was enabled before any vector was configured",
      "N-7.4: vector 1 was configured after MSI had been enabled",
    ]);
    if (form.name.endsWith("sharing")) command(device, 0, COMMAND.mapConfig);
    device.enable(0);
    device.status = 15;
    device.write(REG.queueNotify, 9);
    assertEquals(device.port.take().filter((one) => one.startsWith("N-7.4")), [
      "N-7.4: vector 0 was to be sent, and was never configured",
    ]);
    using other = form.make();
    other.negotiate(RULES | form.features);
    form.configure(other, 0, 0);
    if (form.name.endsWith("sharing")) command(other, 1, COMMAND.mapQueue);
    form.enable(other, true);
    other.enable(0);
    other.status = 15;
    for (let i = 0; i < 3; i++) request(other);
    assertEquals(other.port.messages, []);
    assertEquals(other.port.take(), ["N-7.4: vector 1 was to be sent, and was never configured"], "once");
  });
}

Deno.test("N-7.4: a queue's UPDATE comes before its QueueReady; reprogramming later is in order (A-7.12)", () => {
  for (const form of [v3, v2(false)]) {
    using device = form.make();
    device.negotiate(RULES | form.features);
    form.configure(device, 0, 0);
    device.enable(0);
    form.configure(device, 1, 1);
    form.configure(device, 1, 0);
    assertEquals(device.port.take(), ["N-7.4: its vector 1 was configured after the queue had been enabled"]);
  }
});

Deno.test("A-7.5, A-7.6: version 3 is enabled by MsiCmd or by bit 15 of MsiStatus, which says the state and no capability", () => {
  using device = v3.make();
  device.negotiate();
  v3.configure(device, 0, 0);
  assertEquals(device.read(V3.status, 2), 1, "off at first");
  device.write(V3.status, 0x8001, 2);
  assertEquals(device.read(V3.status, 2), 0x8001);
  device.write(V3.status, 0x0001, 2);
  assertEquals(device.read(V3.status, 2), 1);
  device.write(V3.cmd, 0x2001, 2);
  assertEquals(device.read(V3.status, 2), 0x8001);
  device.write(V3.cmd, 0x2000, 2);
  assertEquals([device.read(V3.status, 2), device.port.take()], [1, []]);
});

Deno.test("A-7.16: UPDATE's argument is a vector, 0 the configuration's and i + 1 queue i's; others and unknown operators are named", () => {
  using device = v3.make();
  v3.configure(device, 2, 0);
  device.write(V3.cmd, 3 << 12, 2);
  device.write(V3.cmd, 2 << 12 | 2, 2);
  assertEquals(device.port.take(), [
    "A-7.16: MsiCmd: UPDATE of vector 2: 0 is the configuration's, i + 1 queue i's",
    "7.2: MsiCmd: there is no operator 3",
    "7.2: MsiCmd: ENABLE with argument 2, neither 0 nor 1",
  ]);
});

Deno.test("7.3: what happens while a vector is masked is sent once, with the message that it has then", () => {
  for (const form of [v2(false), v2(true)]) {
    using device = form.make();
    bringUp(form, device);
    command(device, 1, COMMAND.mask);
    for (let i = 0; i < 3; i++) request(device);
    command(device, 1, COMMAND.mask);
    assertEquals(device.port.messages, []);
    form.configure(device, 1, 0);
    command(device, 1, COMMAND.unmask);
    command(device, 1, COMMAND.unmask);
    assertEquals(device.port.messages.splice(0), [0], form.name);
    request(device);
    assertEquals(device.port.messages.splice(0), [0]);
    command(device, 1, COMMAND.mask);
    request(device);
    form.enable(device, false);
    form.enable(device, true);
    command(device, 1, COMMAND.unmask);
    assertEquals([device.port.messages, device.port.take()], [[], []], "DISABLE drops what was pending");
  }
});

Deno.test("N-7.1, 7.3: a reset unmasks vectors, drops what they kept, and selects none", () => {
  for (const form of [v2(false), v2(true)]) {
    using device = form.make();
    bringUp(form, device);
    command(device, 1, COMMAND.mask);
    request(device);
    device.negotiate(RULES | form.features);
    device.write(V2.cmd, COMMAND.configure);
    assertEquals(device.port.take(), ["N-7.5: MsiCmd: CONFIGURE of vector NO_VECTOR, there are 2"]);
    bringUp(form, device);
    assertEquals(device.port.messages, [], form.name);
    request(device);
    assertEquals([device.port.messages, device.port.take()], [[1], []], form.name);
  }
});

Deno.test("N-7.9: in sharing mode ENABLE and DISABLE leave the mapping as it is", () => {
  const sharing = v2(true);
  using device = sharing.make();
  device.negotiate(RULES | MSI);
  for (const vector of [0, 1]) sharing.configure(device, vector, vector);
  command(device, 1, COMMAND.mapConfig);
  device.write(REG.queueSel, 0);
  command(device, 0, COMMAND.mapQueue);
  for (const on of [true, false, true]) sharing.enable(device, on);
  device.enable(0);
  device.status = 15;
  request(device);
  assertEquals([device.port.messages.splice(0), device.port.take()], [[0], []]);
  // A violation is what changes the configuration's status.
  device.write(REG.queueNotify, 9);
  assertEquals(device.port.messages, [1]);
});

Deno.test("N-7.9, N-7.5: in sharing mode any event has any vector, or none; MAP_* elsewhere is refused", () => {
  const sharing = v2(true);
  using device = sharing.make();
  bringUp(sharing, device);
  device.write(REG.queueSel, 0);
  command(device, 0, COMMAND.mapQueue);
  request(device);
  assertEquals(device.port.messages.splice(0), [0], "both events share vector 0");
  command(device, NONE, COMMAND.mapQueue);
  request(device);
  assertEquals([device.port.messages, device.port.take()], [[], []], "NO_VECTOR");
  command(device, 2, COMMAND.mapQueue);
  command(device, NONE, COMMAND.configure);
  command(device, 2, COMMAND.mask);
  command(device, 0, 8);
  device.write(REG.queueSel, 3);
  command(device, 0, COMMAND.mapQueue);
  assertEquals(device.port.take(), [
    "N-7.9: MsiCmd: MAP_QUEUE to vector 2, there are 2",
    "N-7.5: MsiCmd: CONFIGURE of vector NO_VECTOR, there are 2",
    "N-7.5: MsiCmd: MASK of vector 2, there are 2",
    "7.3: MsiCmd: there is no command 8",
    "7.1: MsiCmd was written for a queue that does not exist",
  ]);
  const fixed = v2(false);
  using other = fixed.make();
  bringUp(fixed, other);
  command(other, 0, COMMAND.mapQueue);
  command(other, 0, COMMAND.mapConfig);
  assertEquals(other.port.take(), [
    "N-7.9: MsiCmd: MAP_QUEUE where the mapping is fixed (msi_sharing reads 0)",
    "N-7.9: MsiCmd: MAP_CONFIG where the mapping is fixed (msi_sharing reads 0)",
  ]);
  request(other);
  assertEquals(other.port.messages, [1]);
});

Deno.test("7.3: MSI registers mean nothing before MMIO_MSI is negotiated, and are not there where it is not offered", () => {
  using device = mmioRng({ form: "msi-v2" });
  assertEquals([device.read(V2.vecNum), device.port.take()], [2, []]);
  device.negotiate();
  device.write(V2.cmd, COMMAND.enable);
  assertEquals([device.read(V2.state), device.port.take()], [0, [
    "7.3: MsiCmd was written, MMIO_MSI was not negotiated",
  ]]);
  using without = mmioRng({ form: "msi-v2" }, { featuresOff: MSI });
  without.read(V2.vecNum);
  assertEquals(without.port.take(), ["7.1: read of 4 bytes at 0xc0: there is no register"]);
});

Deno.test("queues as the host reports them have the vectors that are in use", () => {
  for (const form of FORMS) {
    using device = form.make();
    bringUp(form, device);
    assertEquals(device.view.queueReport!().queues.map(({ vector, enabled }) => [vector, enabled]), [[
      1,
      true,
    ]]);
  }
  using line = mmioRng({ form: "modern" });
  line.bringUp();
  const { profile, queues, function: name } = line.view.queueReport!();
  assertEquals([name, profile, queues[0]!.vector, queues[0]!.ring?.layout], [
    "a003e00.virtio_mmio",
    "spec",
    null,
    "split",
  ]);
});

Deno.test("switching between line and messages leaves no level behind", () => {
  for (const form of [v3, v2(false)]) {
    using device = form.make();
    device.negotiate(RULES | form.features);
    form.configure(device, 0, 0);
    form.configure(device, 1, 1);
    device.enable(0);
    device.status = 15;
    request(device);
    assertEquals([device.port.line, device.read(REG.interruptStatus)], [true, 1]);
    form.enable(device, true);
    assertEquals(device.port.line, false);
    form.enable(device, false);
    assertEquals([device.read(REG.interruptStatus), device.port.line, device.port.take()], [0, false, []]);
    request(device);
    assertEquals([device.read(REG.interruptStatus), device.port.messages], [1, []]);
  }
});
