// etcd3 of npm, which speaks gRPC.
//
//   client.js calls ENDPOINTS PREFIX            makes every kind of call, and fails where an answer is not etcd's
//   client.js watch ENDPOINTS PREFIX REVISION   prints a line an event, up to that of the key PREFIXend
"use strict";

const assert = require("node:assert");
const { ExponentialBackoff } = require("cockatiel");
const { Etcd3 } = require("etcd3");

const same = assert.deepStrictEqual;

const line = (kind, kv, previous) =>
  [kv.mod_revision, kind, kv.key.toString(), kv.value.toString(), previous ? previous.value.toString() : "-"].join("\t");

/** The events of a watcher, as they are asked for. */
const eventsOf = (watcher) => {
  const told = [];
  let wake = () => {};
  for (const [name, kind] of [["put", "PUT"], ["delete", "DELETE"]]) {
    watcher.on(name, (kv, previous) => {
      told.push(line(kind, kv, previous));
      wake();
    });
  }
  return async () => {
    while (told.length === 0) await new Promise((resolve) => { wake = resolve; });
    return told.shift();
  };
};

const keys = async (client, prefix) => {
  const space = client.namespace(`${prefix}keys/`);
  await space.delete().all();
  const first = (await space.put("a").value("1")).header.revision;
  for (const [name, value] of [["c", "2"], ["b", "3"], ["a", "4"]]) await space.put(name).value(value);
  same(await space.get("a").string(), "4");
  same(await space.get("absent").string(), null);
  same(await space.get("a").exists(), true);
  const { kvs: [kv] } = await space.get("a").exec();
  same([kv.version, kv.create_revision, Number(kv.mod_revision) - Number(first)], ["2", first, 3]);
  same(await space.getAll().strings(), { a: "4", b: "3", c: "2" });
  same(await space.getAll().sort("Create", "Descend").keys(), ["b", "c", "a"]);
  same(await space.getAll().limit(2).keys(), ["a", "b"]);
  same(await space.getAll().revision(Number(first) + 1).strings(), { a: "1", c: "2" });
  same(await space.getAll().minModRevision(kv.mod_revision).strings(), { a: "4" });
  same(await space.getAll().count(), 3);
  await assert.rejects(space.getAll().revision(Number(first) + 1000).exec(), /future revision/);
  same((await space.put("a").value("5").getPrevious()).value.toString(), "4");
  same((await space.delete().key("a").getPrevious()).map((kv) => kv.value.toString()), ["5"]);
  same((await space.delete().all()).deleted, "2");
};

const transactions = async (client, prefix) => {
  const space = client.namespace(`${prefix}transactions/`);
  await space.delete().all();
  const create = (value) => space
    .if("a", "Create", "==", 0)
    .then(space.put("a").value(value), space.put("b").value(value))
    .else(space.get("a"))
    .commit();
  same((await create("1")).succeeded, true);
  const again = await create("2");
  same([again.succeeded, again.responses[0].response_range.kvs[0].value.toString()], [false, "1"]);
  const { succeeded } = await space
    .if("a", "Value", "==", "1")
    .and("b", "Version", ">", 0)
    .then(space.delete().all())
    .commit();
  same([succeeded, await space.getAll().count()], [true, 0]);
  for (const wanted of [1, 2]) {
    await space.stm().transact(async (tx) => tx.put("counter").value((await tx.get("counter").number() ?? 0) + 1));
    same(await space.get("counter").number(), wanted);
  }
};

const leases = async (client, prefix) => {
  // It keeps itself alive, thrice in the time that it has.
  const lease = client.lease(3);
  await lease.put(`${prefix}lease`).value("1");
  for (let n = 0; n < 4; n++) {
    await new Promise((resolve, reject) => {
      lease.once("keepaliveSucceeded", resolve);
      lease.once("lost", reject);
    });
  }
  same((await lease.keepaliveOnce()).TTL, "3");
  same(await client.get(`${prefix}lease`).string(), "1");
  await lease.revoke();
  same(await client.get(`${prefix}lease`).string(), null);

  // One that nobody keeps alive.
  const left = client.lease(1, { autoKeepAlive: false });
  const { header } = await left.put(`${prefix}lease`).value("2");
  const watcher = await client.watch().key(`${prefix}lease`).startRevision(Number(header.revision) + 1).create();
  assert.match(await eventsOf(watcher)(), /\tDELETE\t/);
  await watcher.cancel();

  const lock = client.lock(`${prefix}lock`);
  await lock.acquire();
  await assert.rejects(client.lock(`${prefix}lock`).acquire());
  await lock.release();

  const election = client.election(`${prefix}leader`, 10);
  const campaign = election.campaign("mine");
  await campaign.wait();
  same(await election.leader(), "mine");
  await campaign.resign();
};

const watches = async (client, prefix) => {
  prefix += "watches/";
  await client.delete().prefix(prefix);
  const first = Number((await client.put(`${prefix}a`).value("1")).header.revision);
  await client.put(`${prefix}a`).value("2");
  await client.delete().key(`${prefix}a`);
  const watcher = await client.watch().prefix(prefix).startRevision(first).withPreviousKV().create();
  const next = eventsOf(watcher);
  same([await next(), await next(), await next()], [
    `${first}\tPUT\t${prefix}a\t1\t-`,
    `${first + 1}\tPUT\t${prefix}a\t2\t1`,
    `${first + 2}\tDELETE\t${prefix}a\t\t2`,
  ]);
  // A second one on the same stream.
  const other = await client.watch().key(`${prefix}b`).only("put").create();
  const nextOther = eventsOf(other);
  await client.put(`${prefix}b`).value("3");
  for (const told of [await next(), await nextOther()]) assert.match(told, /^\d+\tPUT\t.*b\t3\t-$/);
  await other.cancel();
  await client.put(`${prefix}b`).value("4");
  assert.match(await next(), /\t4\t3$/);
  await watcher.cancel();
};

const others = async (client) => {
  const { members } = await client.cluster.memberList({});
  const status = await client.maintenance.status();
  same([members.length, status.leader], [1, status.header.member_id]);
  same((await client.maintenance.alarm({ action: "Get", memberID: 0, alarm: "None" })).alarms, []);
};

/** Leaves it to the client to find another endpoint when one ends. A lease keeps itself alive by then. */
const watch = async (client, prefix, revision) => {
  const lease = client.lease(9);
  lease.on("lost", (error) => { throw error; });
  await lease.grant();
  const watcher = await client.watch().prefix(prefix).startRevision(revision).withPreviousKV().create();
  watcher.on("error", (error) => { throw error; });
  const next = eventsOf(watcher);
  for (;;) {
    const told = await next();
    console.log(told);
    if (told.split("\t")[2] === `${prefix}end`) break;
  }
  await new Promise((resolve) => lease.once("keepaliveSucceeded", resolve));
};

const main = async ([command, endpoints, prefix, revision]) => {
  const client = new Etcd3({
    hosts: endpoints.split(",").map((endpoint) => `http://${endpoint}`),
    // Its default is to wait up to 30 s.
    faultHandling: { watchBackoff: new ExponentialBackoff({ maxDelay: 500 }) },
  });
  if (command === "watch") {
    await watch(client, prefix, revision);
  } else {
    await keys(client, prefix);
    await transactions(client, prefix);
    await leases(client, prefix);
    await watches(client, prefix);
    await others(client);
  }
  client.close();
  // When everything is printed.
  process.stdout.write("", () => process.exit(0));
};

main(process.argv.slice(2)).catch((error) => {
  console.error(error);
  process.exit(1);
});
