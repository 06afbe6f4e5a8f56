/** The third-party programs themselves, peer to peer: what the other tests stand on. */
import { assertEquals, assertMatch, assertRejects } from "@std/assert";
import { accessible, readFile, readText, replaceFile } from "../../ffi/mod.ts";
import { peerTest } from "./rig/needing.ts";
import { listens, PeerError } from "./rig/peer.ts";
import { copyImage, imageBench, startStorageDaemon } from "./rig/qemu.ts";
import { Testpmd } from "./rig/testpmd.ts";

peerTest(["dpdk-testpmd"], "its driver's frames are what its device counts", async (folder) => {
  const socket = `${folder}/vhost.sock`;
  await using device = await Testpmd.device({ socket });
  assertEquals(listens(socket), true);
  await using driver = await Testpmd.driver({ socket, packed: true, mergeable: false, cpu: 1 });
  await device.forward("rxonly");
  await driver.forward("txonly", { frameBytes: 128 });
  await device.countersUntil(({ rxPackets }) => rxPackets > 1000);
  await driver.halt();
  const sent = await driver.counters();
  const seen = await device.countersUntil(({ rxPackets }) => rxPackets === sent.txPackets);
  assertEquals([seen.rxErrors, seen.txPackets, sent.rxPackets], [0, 0, 0]);
});

peerTest(
  ["dpdk-testpmd"],
  "a command that it has not, and its death, are errors that say so",
  async (folder) => {
    await using device = await Testpmd.device({ socket: `${folder}/vhost.sock` });
    await assertRejects(() => device.command("dance"), PeerError, "does not take");
    await assertRejects(
      () => Testpmd.driver({ socket: `${folder}/nobody.sock` }),
      PeerError,
      "dpdk-testpmd ended with status",
    );
    const { pid } = device.peer;
    await device.kill();
    assertEquals(accessible(`/proc/${pid}`), false);
    await assertRejects(() => device.counters(), PeerError);
  },
);

peerTest(["dpdk-testpmd"], "a process lives as long as its owner", async (folder) => {
  const owner = new Deno.Command(Deno.execPath(), {
    args: [
      "run",
      "--quiet",
      "--no-check",
      "-A",
      new URL("./rig/left_behind.ts", import.meta.url).href,
      folder,
    ],
    stdin: "null",
    stdout: "piped",
    stderr: "inherit",
  }).spawn();
  const reader = owner.stdout.pipeThrough(new TextDecoderStream() as ReadableWritablePair<string>)
    .getReader();
  const pid = Number((await reader.read()).value);
  assertMatch(readText(`/proc/${pid}/cmdline`), /dpdk-testpmd/);
  owner.kill("SIGKILL");
  await owner.status;
  await reader.cancel();
  const deadline = performance.now() + 5000;
  while (accessible(`/proc/${pid}/exe`) && performance.now() < deadline) {
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  assertEquals(accessible(`/proc/${pid}/exe`), false);
});

peerTest(
  ["qemu-storage-daemon", "qemu-img", "libblkio of qemu-img"],
  "what one writes is in the file that the other serves",
  async (folder) => {
    const socket = `${folder}/blk.sock`, sizeBytes = 1 << 20;
    const disk = `${folder}/disk.img`, copy = `${folder}/copy.img`;
    for (const file of [disk, copy]) replaceFile(file, new Uint8Array(sizeBytes));
    {
      await using _daemon = await startStorageDaemon({ socket, disk: { file: disk } });
      assertEquals(await imageBench({ socket, requests: 16, depth: 4, write: 0x5a }) > 0, true);
      await copyImage({ socket }, { file: copy });
    }
    const bytes = readFile(disk);
    assertEquals(bytes.subarray(0, 65536).every((byte) => byte === 0x5a), true);
    assertEquals(bytes.subarray(65536).every((byte) => byte === 0), true);
    assertEquals(readFile(copy), bytes);
  },
);
