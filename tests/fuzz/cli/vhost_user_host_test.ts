/** What a user is told of a vhost-user socket that is not what it should be: one line, soon, and nothing is left. */
import { assertEquals, assertMatch } from "@std/assert";
import { makeTemporaryDirectory, removeTree } from "../../../cli/temporary_directory.ts";
import { makeDirectory, replaceFile, UnixListener, type UnixSocket } from "../../../ffi/mod.ts";
import { u64Message } from "../../../lib/sockets/vhost_user/protocol.ts";
import { message, REPLY } from "../../unit/sockets/vhost_user/client/scripted.ts";
import { TopologyHost } from "../../emulated/drivers/topology_host.ts";
import { cliWith } from "../../emulated/cli/run_cli.ts";

/** Takes whoever connects, as a process that knows the protocol only so far. */
function listening(path: string, act: (socket: UnixSocket) => void): Disposable {
  const listener = UnixListener.listen(path);
  const taken: UnixSocket[] = [];
  const timer = setInterval(() => {
    const socket = listener.accept();
    if (socket === undefined) return;
    taken.push(socket);
    act(socket);
  }, 2);
  return {
    [Symbol.dispose]: () => {
      clearInterval(timer);
      for (const one of taken) one.close();
      listener.close();
    },
  };
}

const text = (words: string) => new TextEncoder().encode(words);
const features = message(1, REPLY, u64Message.encode({ value: 1n << 32n | 1n << 30n }));

/** Those who listen and are no back end, and what is said of them. */
const NOBODY: readonly (readonly [string, (socket: UnixSocket) => void, RegExp])[] = [
  [
    "leaves at once",
    (socket) => socket.close(),
    /who listens there ended the connection before anything was agreed on \(is this the socket of a vhost-user server, and is no other client using it\?\)/,
  ],
  ["says nothing", () => {}, /no reply to GET_FEATURES within 200 ms/],
  [
    "talks of the web",
    (socket) => socket.send(text("HTTP/1.1 400 Bad Request\r\n\r\n")),
    /message size 808465452 is above the limit of 4096 bytes/,
  ],
  [
    "answers another question",
    (socket) => socket.send(message(5, REPLY, new Uint8Array(8))),
    /reply to GET_FEATURES: it is one to SET_MEM_TABLE/,
  ],
  [
    "answers too much",
    (socket) => socket.send(message(1, REPLY, new Uint8Array(16))),
    /reply to GET_FEATURES: 16 bytes instead of 8/,
  ],
  [
    "promises more than can be",
    (socket) => socket.send(message(1, REPLY, new Uint8Array(0)).fill(0xff, 8)),
    /4096 are the limit|bytes/,
  ],
  [
    "asks, and was to answer",
    (socket) => socket.send(message(1, 1, new Uint8Array(8))),
    /GET_FEATURES came as a request of the back end/,
  ],
  [
    "dies in the middle of an answer",
    (socket) => {
      socket.send(features.slice(0, 15));
      socket.close();
    },
    /ended the connection|in the middle of/,
  ],
  [
    "dies between two answers",
    (socket) => {
      socket.send(features);
      socket.close();
    },
    /ended the connection/,
  ],
];

Deno.test("who listens and is no back end: one line says so", async () => {
  const folder = makeTemporaryDirectory();
  try {
    await Promise.all(NOBODY.map(async ([what, act, says], number) => {
      const path = `${folder}/${number}.sock`;
      using _listening = listening(path, act);
      const command = number % 2 === 0 ? ["list"] : ["net", "loop", "net", "net"];
      const timeoutMs = what === "says nothing" ? 200 : 20_000;
      const host = `vhost-user:${path},type=net,timeout=${timeoutMs}`;
      const { code, out, err } = await cliWith({}, "--host", host, ...command);
      assertEquals([code, out], [1, ""], `${what}: ${err}`);
      assertMatch(err, says, what);
      assertMatch(err, /^ringside: [^\n]+\n$/, `${what}: it is one line`);
      assertEquals(err.includes(path), true, `${what}: it names the socket`);
    }));
  } finally {
    removeTree(folder);
  }
});

Deno.test("a path that is no socket, or whose server is gone, or cannot be: one line says which", async () => {
  const folder = makeTemporaryDirectory();
  try {
    replaceFile(`${folder}/file`, new Uint8Array(0));
    makeDirectory(`${folder}/directory`, 0o700);
    for (
      const [path, status, says] of [
        [`${folder}/none.sock`, 2, /there is no socket \S+none\.sock/],
        [`${folder}/file`, 2, /file is no socket/],
        [`${folder}/directory`, 2, /directory is no socket/],
        [`${folder}/file/under`, 2, /there is no socket/],
        [`${folder}/${"x".repeat(120)}`, 2, /107|longer|too long/],
      ] as const
    ) {
      const { code, out, err } = await cliWith({}, "--host", `vhost-user:${path},type=net`, "list");
      assertEquals([code, out], [status, ""], err);
      assertMatch(err, says);
      assertMatch(err, /^ringside: [^\n]+\n$/);
    }
  } finally {
    removeTree(folder);
  }
});

Deno.test("a device of another type, and a second front end, are told so, and the device goes on", async () => {
  const folder = makeTemporaryDirectory();
  try {
    const vhostUser = [
      { socket: `${folder}/net.sock`, kind: "virtio-net" },
      { socket: `${folder}/blk.sock`, kind: "virtio-blk", sizeBytes: 65536 },
      { socket: `${folder}/rng.sock`, kind: "virtio-rng" },
    ];
    await using _host = await TopologyHost.start([], { alone: true, vhostUser });
    const run = (socket: string, type: string, ...command: string[]) =>
      cliWith({}, "--host", `vhost-user:${folder}/${socket}.sock,type=${type},timeout=2000`, ...command);
    for (
      const [socket, type, ...command] of [
        ["net", "blk", "blk", "read", "blk", "0", "1"],
        ["net", "rng", "rng", "rng", "16"],
        ["blk", "net", "net", "loop", "net", "net", "--count", "4"],
        ["blk", "rng", "rng", "rng", "16"],
        ["rng", "blk", "blk", "info", "blk"],
        ["rng", "net", "net", "loop", "net", "net", "--count", "4"],
      ] as const
    ) {
      const { code, err, out } = await run(socket, type, ...command);
      assertEquals(code, 1, `${socket} as ${type}: ${out}${err}`);
      assertMatch(err, /^ringside: [^\n]+\n$/);
    }
    const { code, err } = await run("blk", "blk", "blk", "info", "blk");
    assertEquals(code, 0, err);
  } finally {
    removeTree(folder);
  }
});
