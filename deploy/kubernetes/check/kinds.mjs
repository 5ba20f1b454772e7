// Holds documents of the kinds that are not Kubernetes' own against their makers' schemas. Reads a list of documents as JSON,
// writes a line for each that is checked; ends with 1 if one of them is wrong, or of a kind that nobody here knows.
import fs from "node:fs";

const groups = {
  "gateway.envoyproxy.io/v1alpha1": "@kubernetes-models/envoy-gateway/gateway.envoyproxy.io/v1alpha1",
  "gateway.networking.k8s.io/v1": "@kubernetes-models/gateway-api/gateway.networking.k8s.io/v1",
  "keda.sh/v1alpha1": "@kubernetes-models/keda/keda.sh/v1alpha1",
  "monitoring.coreos.com/v1": "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1",
};

let failed = false;
for (const document of JSON.parse(fs.readFileSync(0, "utf8"))) {
  const name = `${document.apiVersion} ${document.kind} ${document.metadata?.name}`;
  try {
    const group = groups[document.apiVersion];
    if (!group) throw new Error("no schema is known");
    const Kind = (await import(group))[document.kind];
    if (!Kind) throw new Error("no such kind");
    new Kind(document).validate();
    console.log(`  ok: ${name}`);
  } catch (error) {
    failed = true;
    console.log(`  wrong: ${name}: ${error.message}`);
  }
}
process.exit(failed ? 1 : 0);
