/** The commands as a user of the guest runs them: exit statuses, what they print, and that refusals change nothing. */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { main } from "../../cli/main.ts";
import { LinuxHost } from "../../lib/host/linux_host.ts";
import { readTrace } from "../../lib/trace/mod.ts";
import { guestTest, ID, netInterface, physicalFunction, rng, snapshot, withAllRings } from "./guest_host.ts";

const NOBODY = 65534;
const MAIN = new URL("../../cli/main.ts", import.meta.url).pathname;

interface Outcome {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

interface User {
  readonly uid: number;
  /** A Deno that this user can start. */
  readonly deno: string;
}

async function ringside(args: readonly string[], user?: User): Promise<Outcome> {
  const output = await new Deno.Command(user?.deno ?? Deno.execPath(), {
    args: ["run", "--quiet", "--cached-only", "--allow-ffi", "--allow-env", "--allow-sys", MAIN, ...args],
    ...(user === undefined ? {} : { uid: user.uid, gid: user.uid, env: { HOME: "/tmp" } }),
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).output();
  const decoder = new TextDecoder();
  return { code: output.code, out: decoder.decode(output.stdout), err: decoder.decode(output.stderr) };
}

/** Runs a command that must do. @returns what it prints */
async function succeeds(...args: string[]): Promise<string> {
  const { code, out, err } = await ringside(args);
  assertEquals(code, 0, `ringside ${args.join(" ")}: ${out}${err}`);
  return out;
}

/** A command that must fail, its exit status, and what its one line must say. */
type Refusal = readonly [code: 1 | 2, args: readonly string[], says: string];

/** Runs commands, at the same time, that must each be refused in one line; together they change nothing. */
async function refused(refusals: readonly Refusal[], user?: User): Promise<void> {
  const before = snapshot();
  const outcomes = await Promise.all(refusals.map(([, args]) => ringside(args, user)));
  refusals.forEach(([code, args, says], index) => {
    const { code: actual, out, err } = outcomes[index]!;
    const said = `ringside ${args.join(" ")}: ${out}${err}`;
    assertEquals([actual, out], [code, ""], said);
    assertEquals(err.trimEnd().split("\n").length, 1, said);
    assert(!err.includes("internal error"), said);
    assertStringIncludes(err, says);
  });
  assertEquals(snapshot(), before);
}

async function run(...words: string[]): Promise<void> {
  const [program = "", ...args] = words;
  const output = await new Deno.Command(program, { args, stdin: "null", stderr: "piped" }).output();
  assert(output.success, `${words.join(" ")}: ${new TextDecoder().decode(output.stderr)}`);
}

function cliTest(name: string, body: () => Promise<void>, why?: string): void {
  guestTest(`ringside: ${name}`, async () => {
    const before = snapshot();
    await body();
    assertEquals(snapshot(), before, "sysfs is not as it was");
  }, { ...(why === undefined ? {} : { unless: why }) });
}

// Under emulation the start of each command takes seconds. Those of the README's hardware part have a test of their own.
cliTest("doctor finds the host ready, rng prints bytes", async () => {
  const entropy = rng("msix");
  const [examined] = await Promise.all([succeeds("doctor", "--json"), succeeds("bind", entropy)]);
  const report = JSON.parse(examined) as { ready: boolean; findings: { what: string; state: string }[] };
  const problems = report.findings.filter((one) => one.state === "problem").map((one) => one.what);
  assertEquals([report.ready, problems], [true, []]);
  const random = await succeeds("rng", entropy, "48");
  assertEquals(random.replaceAll(/[0-9a-f]/g, ""), "\n\n");
  assertEquals(random.replaceAll("\n", "").length, 96);
  assertStringIncludes(await succeeds("restore"), `${entropy} driver: vfio-pci -> virtio-pci`);
});

cliTest("refusals: one line, status 1 or 2, nothing changed", async () => {
  const pf = physicalFunction(ID.net);
  const link = netInterface(pf);
  await run("ip", "addr", "add", "192.0.2.1/24", "dev", link);
  try {
    await refused([
      [1, ["bind", pf], `${link} of ${pf} has the address 192.0.2.1`],
      [2, ["sriov", pf, "4"], "TotalVFs is 3"],
      [2, ["rng", rng("msix")], "virtio-pci"],
    ]);
  } finally {
    await run("ip", "addr", "flush", "dev", link);
  }
});

/** Programs that do nothing, as fast as they can. */
function busyPrograms(count: number): AsyncDisposable {
  const programs = Array.from(
    { length: count },
    () => new Deno.Command("sh", { args: ["-c", "while :; do :; done"], stdin: "null" }).spawn(),
  );
  return {
    [Symbol.asyncDispose]: async () => {
      for (const one of programs) one.kill("SIGKILL");
      await Promise.all(programs.map((one) => one.status));
    },
  };
}

// With twice as many busy programs as processors each step takes its time, so that it matters which comes first.
cliTest("a function that is unbound beside busy programs is closed before all else", async () => {
  const [from = "", to = ""] = withAllRings("net");
  using host = new LinuxHost();
  host.bind([from, to]);
  const trace = "/tmp/unbound.jsonl";
  const text = () => Deno.readTextFile(trace).catch(() => "");
  let said = "", ended = false;
  // In this process, which does not end with it: what the kernel waits for is that the function is closed.
  const running = main(["net", "loop", from, to, "--count", "1000000000", "--trace", trace], {
    out: (line) => said += line,
    err: (line) => said += line,
  }).finally(() => ended = true);
  while (!ended && !(await text()).includes('"doorbell"')) {
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  {
    await using _busy = busyPrograms(4);
    await run("sh", "-c", `echo ${from} > /sys/bus/pci/devices/${from}/driver/unbind`);
    assertEquals([await running, said.split("\n").length], [1, 2], said);
  }
  assertStringIncludes(said, `${from}: the kernel asks for the function back`);
  const records = readTrace(await text());
  const [asked, other] = [from, to].map((name) =>
    records.find((one) => one.kind === "open" && one.name === name)?.device
  );
  assertEquals(records.flatMap(({ kind, device }) => (kind === "close" ? [device] : [])), [asked, other]);
  // Its driver's own stop would be a write to it.
  const since = records.slice(1 + records.findLastIndex(({ kind }) => kind === "doorbell"));
  assertEquals(since.filter(({ kind, device }) => kind === "write" && device === asked), []);
  assertEquals(host.restore().failed, []);
});

cliTest("as an ordinary user: changes and opens nothing", async () => {
  const entropy = rng("intx");
  // The Deno of the tests may lie in root's home; mounted elsewhere, everybody can start it.
  const user = { uid: NOBODY, deno: "/tmp/deno-for-all" };
  await Deno.writeFile(user.deno, new Uint8Array());
  await run("mount", "--bind", Deno.execPath(), user.deno);
  // As a login makes it.
  await Deno.mkdir(`/run/user/${NOBODY}`, { recursive: true });
  await Deno.chown(`/run/user/${NOBODY}`, NOBODY, NOBODY);
  try {
    await succeeds("bind", entropy);
    await refused([
      [1, ["sriov", physicalFunction(ID.net), "2"], "only root"],
      [1, ["rng", entropy], "/dev/vfio"],
      [1, ["restore"], "only root"],
    ], user);
  } finally {
    await run("umount", user.deno);
    await ringside(["restore"]);
  }
}, hidden());

/** Why an ordinary user could not even read the project. */
function hidden(): string | undefined {
  for (let folder = MAIN; folder !== ""; folder = folder.slice(0, folder.lastIndexOf("/"))) {
    const mode = Deno.statSync(folder).mode ?? 0;
    if ((mode & 0o001) === 0 && folder !== MAIN) return `${folder} is closed to other users`;
  }
  return undefined;
}
