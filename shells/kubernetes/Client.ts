/** What is used of the Kubernetes client, in a file of its own that is loaded with the first connection only. */
import { KubeConfig, Watch } from "@kubernetes/client-node"

/** The part of the client's `Watch` that is used. `done` comes once, with what went wrong if anything did. */
export interface Client {
  /** Undefined when no cluster is configured. */
  readonly server: string | undefined
  readonly watch: (
    path: string,
    query: Record<string, string | number>,
    event: (type: string, object: unknown) => void,
    done: (error: unknown) => void
  ) => Promise<AbortController>
}

/** Reads KUBECONFIG, `~/.kube/config` or the service account of the pod; throws when a file is bad. */
export const load = (): Client => {
  const config = new KubeConfig()
  config.loadFromDefault()
  // What the client makes up when it finds nothing.
  const isGuess = config.getCurrentUser()?.name === "user" &&
    config.getCurrentCluster()?.server === "http://localhost:8080"
  return {
    server: isGuess ? undefined : config.getCurrentCluster()?.server,
    watch: (path, query, event, done) => new Watch(config).watch(path, query, event, done)
  }
}
