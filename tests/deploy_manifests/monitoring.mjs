// What the published schemas of the Prometheus operator say of the objects on standard input (a JSON list). One line for each
// problem. These schemas allow unknown members, so each member's name must be one of the package's types.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const packages = join(process.cwd(), "target/tools/deploy-manifests/node_modules/@kubernetes-models");
const operator = join(packages, "prometheus-operator/monitoring.coreos.com/v1");
const kinds = {};
for (const kind of ["ServiceMonitor", "PrometheusRule"]) {
  kinds[kind] = (await import(pathToFileURL(join(operator, `${kind}.js`))))[kind];
}
const names = new Set();
const types = readdirSync(operator).filter(name => name.endsWith(".d.ts")).map(name => join(operator, name));
types.push(...["LabelSelector", "LabelSelectorRequirement"].map(name => join(packages, `apimachinery/apis/meta/v1/${name}.d.ts`)));
for (const file of types) {
  for (const [, member] of readFileSync(file, "utf8").matchAll(/^\s*"(\w+)"\??:/gm)) names.add(member);
}

// Maps of texts, with names of our own.
const free = new Set(["labels", "annotations", "matchLabels"]);
function* unknown(value, path) {
  if (value === null || typeof value !== "object") return;
  for (const [name, below] of Object.entries(value)) {
    if (!Array.isArray(value) && !names.has(name)) yield `${path}/${name}: there is no such member`;
    if (!free.has(name)) yield* unknown(below, `${path}/${name}`);
  }
}

for (const object of JSON.parse(readFileSync(0, "utf8"))) {
  const named = `${object.kind} ${object.metadata.name}: `;
  if (object.apiVersion !== "monitoring.coreos.com/v1" || !kinds[object.kind]) {
    console.log(`${named}no schema for ${object.apiVersion}`);
    continue;
  }
  try {
    new kinds[object.kind](object).validate();
  } catch (problem) {
    console.log(named + problem.message);
  }
  for (const problem of unknown(object.spec, "/spec")) console.log(named + problem);
}
