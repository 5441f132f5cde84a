# shellcheck shell=bash
# Tenants in a lab: red and blue with the same addresses, networks a and b and a router each, a port of every network on every
# host, in a container's namespace of its own. Sourced by lab.sh after lab-net.sh.

TENANT_NAMES=(red blue)
# Objects of the user's own in their place (up --tenants-from).
TENANTS_FILE=''

# tenant_ns TENANT PORT HOST-NUMBER
tenant_ns() { printf '%s-t-%s-%s' "$(ns "h$3")" "$1" "$2"; }

write_tenants() {
  local tenant n net
  for tenant in "${TENANT_NAMES[@]}"; do
    cat <<YAML
---
{ apiVersion: warren/v1, kind: Tenant, metadata: { name: $tenant } }
---
{ apiVersion: warren/v1, kind: Network, metadata: { name: a, tenant: $tenant }, spec: { type: vxlan, subnets: [{ cidr: 10.0.1.0/24, gateway: 10.0.1.1 }, { cidr: "fd00:0:0:1::/64" }] } }
---
{ apiVersion: warren/v1, kind: Network, metadata: { name: b, tenant: $tenant }, spec: { type: vxlan, subnets: [{ cidr: 10.0.2.0/24, gateway: 10.0.2.1 }] } }
---
{ apiVersion: warren/v1, kind: Router, metadata: { name: r, tenant: $tenant }, spec: { networks: [a, b] } }
YAML
    for ((n = 1; n <= HOSTS; n++)); do
      for net in a b; do
        cat <<YAML
---
apiVersion: warren/v1
kind: Port
metadata: { name: $net$n, tenant: $tenant }
spec:
  network: $net
  node: h$n
  fixedIPs: [10.0.$([[ $net == a ]] && echo 1 || echo 2).$((10 + n))]
  device: { kind: veth, netns: $(tenant_ns "$tenant" "$net$n" "$n"), name: eth0 }
YAML
      done
    done
  done
}

apply_tenants() {
  local name names
  if [[ -n $TENANTS_FILE ]]; then cp "$TENANTS_FILE" "$LAB_DIR/tenants.yaml"; else write_tenants >"$LAB_DIR/tenants.yaml"; fi
  # A port's namespace is this lab's, so that `down` finds it.
  mapfile -t names < <(grep -o "$(ns h)[0-9]*-t-[a-z0-9-]*" "$LAB_DIR/tenants.yaml" | sort -u)
  ((${#names[@]} == 0)) || printf 'netns add %s\n' "${names[@]}" | ip -batch -
  for name in "${names[@]}"; do ip -n "$name" link set lo up; done
  warren_on h1 apply -f "$LAB_DIR/tenants.yaml" >/dev/null || die "Cannot apply the lab's tenants" "their file: $LAB_DIR/tenants.yaml"
  [[ -n $TENANTS_FILE ]] || busywait 10 ports_reach || warn "not every port answers yet: lab.sh tenants --name $LAB_NAME"
}

# tenant_ping TENANT PORT HOST-NUMBER ADDRESS
tenant_ping() { ip netns exec "$(tenant_ns "$1" "$2" "$3")" ping -n -q -c 1 -W 1 "$4" >/dev/null 2>&1; }

ports_reach() {
  local tenant n
  for tenant in "${TENANT_NAMES[@]}"; do
    for ((n = 1; n <= HOSTS; n++)); do
      tenant_ping "$tenant" a1 1 "10.0.1.$((10 + n))" && tenant_ping "$tenant" a1 1 "10.0.2.$((10 + n))" || return 1
    done
  done
}

# cmd_tenants: every pair of ports of a tenant answers each other.
cmd_tenants() {
  [[ $TENANTS == true ]] || die "Lab \"$LAB_NAME\" has no tenants" "lab.sh up --tenants"
  local tenant from net n failed=0 mark line
  printf '%-6s %-5s %s\n' TENANT FROM 'ANSWERS FROM'
  for tenant in "${TENANT_NAMES[@]}"; do
    for ((from = 1; from <= HOSTS; from++)); do
      line=''
      for net in 1 2; do
        for ((n = 1; n <= HOSTS; n++)); do
          mark=yes
          tenant_ping "$tenant" "a$from" "$from" "10.0.$net.$((10 + n))" || mark=NO failed=1
          line+=" 10.0.$net.$((10 + n)):$mark"
        done
      done
      printf '%-6s %-5s%s\n' "$tenant" "a$from" "$line"
    done
  done
  return "$failed"
}
