/** The machine and users that do not read what they asked for: nobody else waits for them. */
import { assert, assertEquals } from "@std/assert";
import { makeDirectory, removeDirectory, UnixSocket } from "../../../ffi/mod.ts";
import { readTopology } from "../../../lib/emulation/mod.ts";
import { EmulatedMachine } from "../../../lib/emulation/machine.ts";
import { encodeFrame, FrameReader } from "./control_frames.ts";
import { REGION } from "../../../lib/vfio/device.ts";
import { COMMAND, messageHeader } from "../../../lib/sockets/vfio_user/protocol.ts";
import { message, versionPayload } from "../sockets/vfio_user/raw_client.ts";
import { access } from "../sockets/vfio_user/server/bench.ts";
import { ScratchModels } from "./machine_scratch.ts";

/** A machine with two functions on vfio-pci and its sockets, in this process. */
function sockets(test: (machine: EmulatedMachine, directory: string) => void): void {
  const directory = `/tmp/ringside-patience-${crypto.randomUUID().slice(0, 8)}`;
  makeDirectory(directory);
  const topology = readTopology({
    functions: ["01:00.0", "02:00.0"].map((address) => ({ address, kind: "virtio-rng", driver: "vfio-pci" })),
  });
  try {
    using machine = new EmulatedMachine({ topology, models: new ScratchModels(), directory });
    test(machine, directory);
  } finally {
    removeDirectory(directory);
  }
}

/** Sends until the machine takes no more. @returns how often */
function flood(machine: EmulatedMachine, socket: UnixSocket, bytes: Uint8Array<ArrayBuffer>): number {
  for (let sent = 0;; sent++) {
    for (let rest = bytes, tries = 0; rest.byteLength > 0;) {
      const count = socket.sendSome(rest);
      rest = rest.subarray(count);
      machine.step();
      if (count > 0) tries = 0;
      else if (++tries === 10) return sent + (rest.byteLength < bytes.byteLength ? 1 : 0);
    }
  }
}

function drain(machine: EmulatedMachine, socket: UnixSocket, take: (bytes: Uint8Array) => boolean): void {
  const into = new Uint8Array(1 << 16);
  for (let more = true; more;) {
    machine.step();
    const received = socket.receive(into, { wait: false });
    if (received === undefined) continue;
    assert(received.length > 0, "let go");
    more = take(into.subarray(0, received.length));
  }
}

Deno.test("the machine: a user that never reads its replies keeps its function, and no other user waits", () => {
  sockets((machine, directory) => {
    const read = message(COMMAND.regionRead, access(0n, REGION.config, 256));
    const connect = (address: string) => {
      const socket = UnixSocket.connect(`${directory}/0000:${address}.sock`);
      socket.send(message(COMMAND.version, versionPayload()));
      machine.step();
      socket.receive(new Uint8Array(1024));
      return socket;
    };
    using deaf = connect("01:00.0");
    using other = connect("02:00.0");
    const sent = flood(machine, deaf, read);
    for (let i = 0; i < 100; i++) {
      other.send(read);
      machine.step();
      const answer = new Uint8Array(512);
      assertEquals(other.receive(answer, { wait: false })?.length, 16 + 16 + 256);
    }
    assert(machine.device("0000:01:00.0").inUse);
    let bytes = 0;
    drain(machine, deaf, (part) => (bytes += part.byteLength) < sent * (16 + 16 + 256));
    assertEquals([bytes, machine.violations.toText()], [sent * (16 + 16 + 256), ""]);
    assertEquals(messageHeader.sizeBytes, 16);
  });
});

Deno.test("the machine: a client of the control socket that never reads its answers holds nobody up", () => {
  sockets((machine, directory) => {
    using deaf = UnixSocket.connect(`${directory}/host.sock`);
    const request = encodeFrame({ op: "list", path: "/sys/bus/pci/devices" });
    const sent = flood(machine, deaf, request);
    using other = UnixSocket.connect(`${directory}/host.sock`);
    const frames = new FrameReader();
    other.send(request);
    drain(machine, other, (part) => {
      frames.push(part);
      return frames.next() === undefined;
    });
    const answers = new FrameReader();
    let count = 0;
    drain(machine, deaf, (part) => {
      answers.push(part);
      while (answers.next() !== undefined) count++;
      return count < sent;
    });
    assertEquals(count, sent);
  });
});
