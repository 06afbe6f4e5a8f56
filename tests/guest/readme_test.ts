import { assertEquals, assertMatch } from "@std/assert";
import { blocksOf, root, runnable } from "../readme/readme_commands.ts";

const inGuest = Deno.env.get("RINGSIDE_GUEST") === "1";
const paths = Deno.env.get("RINGSIDE_GUEST_CDEV") === "1" ? ["cdev", "group"] : ["group"];

/** What each command must print; `doctor` may find problems in the guest (no huge pages), which is status 1. */
const PRINTS: readonly [RegExp, RegExp][] = [
  [/ doctor$/, /IOMMU/],
  [/ list --sriov$/, /0000:01:00\.0 /],
  [/ bind 01:00\.0$/, /-> vfio-pci/],
  [/ sriov 01:00\.0 2 --vf-token/, /2 VFs\n +0000:01:00\.1/],
  [/ show 01:00\.1 --vf-token/, /VFIO: by [\s\S]*VIRTIO_NET_F_MAC/],
  [/ net loop 01:00\.1 01:00\.2/, /frames, .* every byte as sent/],
  [/ status$/, /restore would put back:/],
  [/ restore$/, /0000:01:00\.0 driver: vfio-pci -> /],
];
/** Commands that open a function, and so have a path. */
const OPENS = / (show|net loop) /;

Deno.test({
  name: `the tour's commands for real hardware, by ${paths.join(" and ")}${
    inGuest ? "" : " (skipped: needs the guest rig)"
  }`,
  ignore: !inGuest,
  fn: async (t) => {
    const block = blocksOf("docs/tour.md").find((one) => one.info === "sh hardware")!;
    assertEquals(block.lines.length, PRINTS.length);
    for (const line of block.lines) {
      const expected = PRINTS.find(([command]) => command.test(line));
      // Under emulation a command takes seconds, so only those that open a function are run by each path.
      for (const option of OPENS.test(line) ? paths.map((path) => ` --path ${path}`) : [""]) {
        await t.step(`${line}${option}`, async () => {
          if (expected === undefined) throw new Error("no expectation for this command");
          const command = `${runnable(line)}${option}`;
          const child = new Deno.Command("sh", { args: ["-c", command], cwd: root, stdin: "null" });
          const { code, stdout, stderr } = await child.output();
          const [out, err] = [stdout, stderr].map((bytes) => new TextDecoder().decode(bytes)) as [
            string,
            string,
          ];
          if (!/ doctor$/.test(line)) assertEquals(code, 0, err);
          assertMatch(out, expected[1], err);
        });
      }
    }
  },
});
