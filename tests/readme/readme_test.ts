import { assert, assertEquals, assertMatch } from "@std/assert";
import {
  accessible,
  O,
  OwnedFd,
  readDirectory,
  readText,
  removeDirectory,
  removeFile,
  writeAll,
} from "../../ffi/mod.ts";
import manifest from "../../deno.json" with { type: "json" };
import { blocksOf, type CommandPage, root, runnable } from "./readme_commands.ts";

const directory = `/tmp/ringside-readme-${crypto.randomUUID().slice(0, 8)}`;
const here = (line: string) => runnable(line).replaceAll("/tmp/ringside-host", directory);

async function shell(line: string): Promise<{ code: number; out: string; err: string }> {
  const child = new Deno.Command("sh", {
    args: ["-c", line],
    cwd: root,
    stdin: "null",
    env: { NO_COLOR: "1" },
  });
  const { code, stdout, stderr } = await child.output();
  const decoder = new TextDecoder();
  return { code, out: decoder.decode(stdout), err: decoder.decode(stderr) };
}

/** What each command of the tour must print. A command that is not listed fails the test, so that none goes unchecked. */
const PRINTS: readonly [RegExp, RegExp][] = [
  [/ emulate \S+ --background$/, /^serving 4 functions in/m],
  [/ emulate \S+ --stop$/, /^stopped the host in/m],
  [/ admin 01:00\.0 list$/, /sriov +0003 +LEGACY_COMMON_CFG_READ +yes +yes/],
  [
    / admin 01:00\.0 legacy dump --vf 0$/,
    /common +18 +1 +device_status +0x00[\s\S]*device +10 +2 +mtu +0x05dc/,
  ],
  [/ list$/, /0000:01:00\.0 .*virtio-pci .*0\/4[\s\S]*0000:02:00\.0/],
  [/ bind 01:00\.0$/, /0000:01:00\.0: virtio-pci -> vfio-pci/],
  [/ sriov 01:00\.0 2$/, /2 VFs\n +0000:01:00\.1/],
  [/legacy_vf\.ts \S+ 01:00\.0$/, /polling +to the legacy VF: 50000 frames, .* all as sent[\s\S]*restore/],
  [/migrate_parts\.ts \S+ 01:00\.0$/, /^10 moves of \d+ parts; \d+ frames, each once and in order/],
  [/ show 01:00\.1$/, /Virtio 1\.0 network device[\s\S]*VIRTIO_NET_F_MAC/],
  [/ status$/, /restore would put back:[\s\S]*sriov_numvfs: 2 -> 0/],
  [/ net loop 01:00\.1 01:00\.2 --count 10000$/, /10000 frames, .* every byte as sent/],
  [/ bind 03:00\.0$/, /0000:03:00\.0: virtio-pci -> vfio-pci/],
  [/ tvq 03:00\.0 resources$/, /0000:03:00\.0: 64 virtqueues left, 1 to 16 a device; room for 64 devices/],
  [
    / tvq 03:00\.0 show net:mtu=9000 --drive$/,
    /status .*DRIVER_OK[\s\S]*mtu +9000 [\s\S]*\n0 +256 +yes +message /,
  ],
  [
    / net loop 03:00\.0\/net 01:00\.1 --count 1000$/,
    /\/\d+ -> 0000:01:00\.1: 1000 frames, .* every byte as sent/,
  ],
  [/ rng 03:00\.0\/rng 16$/, /^[0-9a-f]{32}$/m],
  [
    /managed_devices\.ts \S+ 03:00\.0$/,
    /40000 frames, .* all as sent[\s\S]*\/\d+ +2048 sectors +128 /,
  ],
  [/ bind 02:00\.0$/, /0000:02:00\.0: virtio-pci -> vfio-pci/],
  [/ rng 02:00\.0 16$/, /^[0-9a-f]{32}$/m],
  [/ bind a003e00\.virtio_mmio$/, /a003e00\.virtio_mmio: virtio-mmio -> vfio-platform/],
  [/ mmio a003e00\.virtio_mmio show$/, /form modern\n[^]*QueueSizeMax +QueueSel 0 /],
  [/ rng a003e00\.virtio_mmio 16$/, /^[0-9a-f]{32}$/m],
  [/ restore a003e00\.virtio_mmio$/, /a003e00\.virtio_mmio driver: vfio-platform -> virtio-mmio/],
  [
    /mmio_window\.ts \S+ a003e00\.virtio_mmio$/,
    /entropy source, \d+ registers\nrandom bytes: [0-9a-f]{32}\n/,
  ],
  [/ restore$/, /0000:01:00\.0 driver: vfio-pci -> virtio-pci/],
  [
    / vf_to_vf\.ts \S+ 01:00\.0$|vf_to_vf\.ts \S+ 01:00\.0$/,
    /polling +100000 frames, .* all as sent[\s\S]*restore/,
  ],
];

/** Runs what stands on a page of the embedded host. */
async function runTour(t: Deno.TestContext, page: CommandPage): Promise<void> {
  const tour = blocksOf(page).filter((one) =>
    one.section.startsWith("Five minutes") && one.info !== "sh ism"
  );
  const lines = tour.filter((one) => one.info === "sh").flatMap((one) => one.lines).filter((line) =>
    line !== ""
  );
  assert(lines.length >= 6, `${lines.length} commands found`);
  assertMatch(lines[0]!, /emulate \/tmp\/ringside-host --background$/);
  assertMatch(lines.at(-1)!, /emulate \/tmp\/ringside-host --stop$/);
  try {
    let scripts = 0;
    for (const block of tour) {
      if (block.info === "ts") {
        await t.step("the script", async () => {
          const path = `${root}tests/readme/.tour-${crypto.randomUUID()}.ts`;
          write(path, block.lines.join("\n").replaceAll("/tmp/ringside-host", directory));
          try {
            const result = await shell(`${Deno.execPath()} run --quiet --allow-ffi ${path}`);
            assertEquals(result.code, 0, result.err);
            assertMatch(result.out, /Uint8Array\(16\)/);
            scripts++;
          } finally {
            removeFile(path);
          }
        });
        continue;
      }
      for (const line of block.lines) {
        if (line === "") continue;
        await t.step(line, async () => {
          const expected = PRINTS.find(([command]) => command.test(line));
          if (expected === undefined) throw new Error("no expectation for this command");
          const result = await shell(here(line));
          assertEquals(result.code, 0, result.err);
          assertMatch(result.out, expected[1]);
        });
      }
    }
    assertEquals(scripts, 1);
  } finally {
    // It is there when a line before the last has failed.
    if (accessible(`${directory}/ready`)) await shell(here(lines.at(-1)!));
    removeTree(directory);
  }
}

for (const page of ["README.md", "docs/tour.md"] as const) {
  Deno.test(`${page}: the embedded host, line by line`, (t) => runTour(t, page));
}

Deno.test("the tour's way through virtio-ism: what is sent arrives", async () => {
  const block = blocksOf("docs/tour.md").find(({ info }) => info === "sh ism")!;
  const host = `${directory}-ism`;
  const line = (text: string) =>
    runnable(text).replaceAll("; deno ", `; ${Deno.execPath()} `).replaceAll("/tmp/ringside-ism", host)
      .replaceAll(/\/tmp\/ringside-(token|copy)/g, `${host}-$1`);
  // The shell has the commands as they stand; only the receiver is waited for, before its host is stopped.
  const script = block.lines.map(line);
  const pipe = script.findIndex((text) => text.includes("--listen"));
  script[pipe] += "\nreceiver=$!";
  const stop = script.pop()!;
  assertMatch(stop, /emulate \S+ --stop$/);
  const result = await shell(["set -e", `trap '${stop}' EXIT`, ...script, "wait $receiver"].join("\n"));
  try {
    assertEquals(result.code, 0, result.err);
    assertMatch(result.out, /0000:02:00\.0: virtio-pci -> vfio-pci[\s\S]*domain d0[\s\S]*0000:02:00\.0 +2 /);
    assertEquals(readText(`${host}-copy`), readText(`${root}README.md`));
  } finally {
    removeFile(`${host}-copy`);
    removeTree(host);
  }
});

/** A line of output without what changes from run to run. */
function steady(line: string): string {
  return line.replace(/\d+(\.\d+)?/g, "N").trimEnd();
}

Deno.test("the README's two commands are tasks, pinned to one version of Deno, and print what it shows", async () => {
  const section = blocksOf("README.md").filter((one) => one.section === "Two commands");
  const two = section.find((one) => one.info === "sh")!;
  assertEquals(two.lines, ["npx --yes deno@2.9.6 task demo", "npx --yes deno@2.9.6 task test"]);
  assert("demo" in manifest.tasks && "test" in manifest.tasks);
  const result = await shell(runnable(two.lines[0]!));
  assertEquals(result.code, 0, result.err);
  assertMatch(result.out, /polling +100000 frames.* all as sent/);
  assertMatch(result.out, /interrupts +1000 frames.* all as sent/);
  assertMatch(result.out, /as it was: same drivers/);
  const printed = result.out.split("\n").map(steady);
  const shown = section.find((one) => one.info === "text demo")!.lines.map(steady);
  assert(shown.length >= 8);
  assertEquals(printed.filter((line) => shown.includes(line)), shown);
});

Deno.test("the README is short: 120 lines of 110 columns", () => {
  const lines = readText(`${root}README.md`).trimEnd().split("\n");
  assert(lines.length <= 120, `${lines.length} lines`);
  assertEquals(lines.filter((line) => [...line].length > 110), []);
});

Deno.test("every task that a page names exists", () => {
  const named = new Set(
    pages().flatMap((page) =>
      [...readText(root + page).matchAll(/deno task ([a-z:]+)/g)].map(([, name]) => name!)
    ),
  );
  assert(named.size >= 15);
  assertEquals([...named].filter((name) => !(name in manifest.tasks)), []);
});

/** The README and all of `docs`. */
function pages(): string[] {
  const inDocs = readDirectory(`${root}docs`).map(({ name }) => `docs/${name}`);
  return ["README.md", ...inDocs.filter((path) => path.endsWith(".md")).sort()];
}

Deno.test("links between the pages lead somewhere", () => {
  const broken: string[] = [];
  let links = 0;
  for (const page of pages()) {
    for (const [, path, anchor] of readText(root + page).matchAll(/\]\(([^)#:]*)(?:#([^)]*))?\)/g)) {
      links++;
      const target = path === "" ? page : `${page.slice(0, page.lastIndexOf("/") + 1)}${path}`;
      const headings = accessible(root + target)
        ? readText(root + target).matchAll(/^#+ (.*)$/gm).map((match) => slug(match[1]!))
        : [];
      const there = accessible(root + target) && (anchor === undefined || [...headings].includes(anchor));
      if (!there) broken.push(`${page}: ${path}#${anchor ?? ""}`);
    }
  }
  assert(links >= 40);
  assertEquals(broken, []);
});

Deno.test("files and folders that the threat model names are there", () => {
  const named = [...readText(`${root}docs/threat_model.md`).matchAll(/`((?:lib|drivers|tests)\/[^`\s]+)`/g)]
    .flatMap(([, path]) => alternatives(path!));
  assert(named.length >= 40);
  assertEquals(named.filter((path) => !accessible(root + path)), []);
});

/** `a/{b,c}.ts` are two. */
function alternatives(path: string): string[] {
  const [, before, list, after] = /^(.*)\{(.*)\}(.*)$/.exec(path) ?? [];
  return list === undefined ? [path] : list.split(",").map((one) => `${before}${one}${after}`);
}

function slug(heading: string): string {
  return heading.toLowerCase().replace(/[^\w\- ]/g, "").replaceAll(" ", "-");
}

function write(path: string, text: string): void {
  using fd = OwnedFd.open(path, O.WRONLY | O.CREAT | O.TRUNC);
  writeAll(fd, new TextEncoder().encode(text) as Uint8Array<ArrayBuffer>);
}

function removeTree(path: string): void {
  const DIRECTORY = 4;
  for (const { name, type } of readDirectory(path)) {
    if (type === DIRECTORY) removeTree(`${path}/${name}`);
    else removeFile(`${path}/${name}`);
  }
  removeDirectory(path);
}
