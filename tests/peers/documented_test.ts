/** The commands of the pages on vhost-user, as they stand there. */
import { assertEquals, assertMatch } from "@std/assert";
import { fromFileUrl } from "../unit/architecture/source_files.ts";
import { fencedBlocks } from "../readme/fenced_blocks.ts";
import { accessible } from "../../ffi/mod.ts";
import { cliWith, startCli } from "../emulated/cli/run_cli.ts";
import { type Needed, peerTest } from "./rig/needing.ts";
import { Peer } from "./rig/peer.ts";
import { dpdkPlugins, findProgram, type ProgramName } from "./rig/programs.ts";

const docs = fromFileUrl(new URL("../../docs/", import.meta.url));

/** What a command must print. One that is not listed fails the test, so that none goes unchecked. */
const PRINTS: readonly (readonly [RegExp, RegExp])[] = [
  [/ list$/, /vhost-user/],
  [/ show net$/, /network device[^]*VIRTIO_NET_F_MRG_RXBUF/],
  [/ net loop net net --count 1000$/, /1000 frames, .* every byte as sent/],
  [/ blk info blk$/, /(2048|131072) sectors/],
  [/ blk read blk 0 1$/, /^0{10} +0{64}\n/],
  [/ queue blk$/, /^QUEUE +LAYOUT[^]*\n0 +- +0 +no /m],
];

/** What a test of a program needs besides it. */
const BESIDES: Readonly<Record<string, readonly Needed[]>> = { passt: ["user namespaces"] };

/** Starts a program as a page has it, with its sockets in `folder`. */
function start(line: string, folder: string): Peer {
  const [name, ...args] = line.replaceAll("/tmp/", `${folder}/`).split(" ");
  const program = findProgram(name as ProgramName)!;
  const isDpdk = name === "dpdk-testpmd";
  // An unpacked one does not find its plug-ins, and writes where only an administrator may.
  const more = isDpdk
    ? dpdkPlugins(program, ["mempool_ring", "net_vhost", "net_virtio"]).flatMap((file) => ["-d", file])
    : [];
  return new Peer(program, [...more, ...args], isDpdk ? { env: { RUNTIME_DIRECTORY: folder } } : {});
}

/** @param says what the other program printed, for a failure */
async function ringside(line: string, folder: string, says: () => string): Promise<void> {
  const prints = PRINTS.find(([command]) => command.test(line))?.[1];
  assertEquals(prints === undefined, false, `nothing says what this prints: ${line}`);
  const args = line.replaceAll("/tmp/", `${folder}/`).split(" ").slice(1);
  const { code, out, err } = await cliWith({}, ...args);
  assertEquals(code, 0, `${line}\n${out}${err}${says()}`);
  assertMatch(out, prints!, line);
}

fencedBlocks(`${docs}vhost_user.md`).filter(({ info }) => info.startsWith("sh ")).forEach((block, number) => {
  const program = block.info.slice(3) as ProgramName;
  peerTest(
    [program, ...BESIDES[program] ?? []],
    `docs/vhost_user.md, block ${number + 1}: its commands do what they say`,
    async (folder) => {
      const [serve = "", ...uses] = block.lines;
      await using peer = start(serve, folder);
      const [, socket = ""] = serve.match(/(\/tmp\/\w+\.sock)/) ?? [];
      if (!serve.includes("client=1")) await peer.untilListening(socket.replace("/tmp/", `${folder}/`));
      for (const line of uses) {
        await ringside(line, folder, () => `${serve}\n${peer.since(0)}${peer.complaints}`);
      }
    },
  );
});

peerTest(
  ["dpdk-testpmd", "qemu-img", "libblkio of qemu-img"],
  "docs/emulation_vhost_user.md: its commands do what they say",
  async (folder) => {
    const blocks = fencedBlocks(`${docs}emulation_vhost_user.md`);
    const [serve = ""] = blocks.find(({ info }) => info === "sh served")!.lines;
    const { lines } = blocks.find(({ info }) => info === "sh drivers")!;
    const here = (line: string) => line.replaceAll("/tmp/", `${folder}/`);
    const emulated = startCli({ stdin: "piped" }, ...here(serve).split(" ").slice(1), "--temporary");
    const output = emulated.output();
    try {
      for (let tries = 0; !accessible(`${folder}/host/ready`); tries++) {
        if (tries > 3000) throw new Error("the embedded host did not come up");
        await new Promise((resolve) => setTimeout(resolve, 10));
      }
      for (const line of lines) {
        if (line.startsWith("ringside ")) {
          await ringside(line, folder, () => "");
          continue;
        }
        await using peer = start(line, folder);
        if (line.startsWith("qemu-img")) assertMatch(await peer.finished(60_000), /Run completed in/);
        else await peer.waitFor(/Press enter to exit/);
      }
    } finally {
      await emulated.stdin.close();
      const { code, stdout } = await output;
      assertEquals(code, 0);
      const text = new TextDecoder().decode(stdout);
      assertMatch(text, /serving 2 vhost-user devices in/);
      assertEquals(text.includes("violation"), false, text);
    }
  },
);
