// What we use of GoBGP 3's API (package apipb, service GobgpApi), as Protocol Buffers say it. Field numbers were read out
// of the descriptor embedded in Debian's /usr/bin/gobgpd (3.10.0) and compared with that of 3.37.0: these are the same in
// both. GoBGP 4 renamed package and service (api.GoBgpService), so that it answers UNIMPLEMENTED.
//
// Left out is what we neither send nor read; what comes of it is skipped. Enums are plain uint32 here and so is uint64
// where it holds seconds or counts: the same varint on the wire, and a number instead of an object.

export const gobgpProto = `
syntax = "proto3";
package apipb;

message Empty {}
message Any { string type_url = 1; bytes value = 2; }           // google.protobuf.Any
message Timestamp { uint32 seconds = 1; }                       // google.protobuf.Timestamp
message Family { uint32 afi = 1; uint32 safi = 2; }             // IP 1, IP6 2; UNICAST 1

message StartBgpRequest { Global global = 1; }
message GetBgpResponse { Global global = 1; }
message Global {
  uint32 asn = 1; string router_id = 2; int32 listen_port = 3; repeated string listen_addresses = 4;
  bool use_multiple_paths = 6;
}

message AddPeerRequest { Peer peer = 1; }
message DeletePeerRequest { string address = 1; }
message UpdatePeerRequest { Peer peer = 1; }
message ListPeerRequest { string address = 1; bool enableAdvertised = 2; }
message ListPeerResponse { Peer peer = 1; }
message ResetPeerRequest { string address = 1; bool soft = 3; uint32 direction = 4; }  // IN 0, OUT 1, BOTH 2
message Peer {
  PeerConf conf = 2; EbgpMultihop ebgp_multihop = 3; RouteReflector route_reflector = 4; PeerState state = 5;
  Timers timers = 6; Transport transport = 7; GracefulRestart graceful_restart = 9; repeated AfiSafi afi_safis = 10;
  TtlSecurity ttl_security = 11;
}
message PeerConf {
  string auth_password = 1; string description = 2; uint32 local_asn = 3; string neighbor_address = 4; uint32 peer_asn = 5;
  uint32 type = 7;                                              // INTERNAL 0, EXTERNAL 1
  uint32 allow_own_asn = 13;
}
message EbgpMultihop { bool enabled = 1; uint32 multihop_ttl = 2; }
message TtlSecurity { bool enabled = 1; uint32 ttl_min = 2; }
message RouteReflector { bool route_reflector_client = 1; string route_reflector_cluster_id = 2; }
message PeerState {
  Messages messages = 4; string neighbor_address = 5; uint32 peer_asn = 6;
  uint32 session_state = 13;                                    // IDLE 1 ... ESTABLISHED 6
  uint32 admin_state = 15;                                      // UP 0, DOWN 1, PFX_CT 2
  repeated Any remote_cap = 18; string router_id = 20;
}
message Messages { Message received = 1; Message sent = 2; }
message Message { uint32 notification = 1; uint32 update = 2; }
message Timers { TimersConfig config = 1; TimersState state = 2; }
message TimersConfig { uint32 connect_retry = 1; uint32 hold_time = 2; uint32 keepalive_interval = 3; uint32 idle_hold_time_after_reset = 5; }
message TimersState { uint32 negotiated_hold_time = 5; Timestamp uptime = 6; }
message Transport { string local_address = 1; bool passive_mode = 4; uint32 remote_port = 6; }
message GracefulRestart {
  bool enabled = 1; uint32 restart_time = 2; bool helper_only = 3; uint32 deferral_time = 4; bool notification_enabled = 5;
  bool longlived_enabled = 6; bool peer_restarting = 9; bool local_restarting = 10;
}
message AfiSafi {
  MpGracefulRestart mp_graceful_restart = 1; AfiSafiConfig config = 2; AfiSafiState state = 3; PrefixLimit prefix_limits = 7;
  LongLivedGracefulRestart long_lived_graceful_restart = 9;
}
message AfiSafiConfig { Family family = 1; bool enabled = 2; }
message AfiSafiState { Family family = 1; uint32 received = 3; uint32 accepted = 4; uint32 advertised = 5; }
message PrefixLimit { Family family = 1; uint32 max_prefixes = 2; uint32 shutdown_threshold_pct = 3; }
message MpGracefulRestart { MpGracefulRestartConfig config = 1; MpGracefulRestartState state = 2; }
message MpGracefulRestartConfig { bool enabled = 1; }
message MpGracefulRestartState { bool received = 2; bool end_of_rib_received = 4; }
message LongLivedGracefulRestart { LongLivedGracefulRestartConfig config = 1; }
message LongLivedGracefulRestartConfig { bool enabled = 1; uint32 restart_time = 2; }
message MultiProtocolCapability { Family family = 1; }
message GracefulRestartCapability { uint32 flags = 1; uint32 time = 2; }

message AddPathRequest { uint32 table_type = 1; Path path = 3; }
message AddPathResponse { bytes uuid = 1; }
message AddPathStreamRequest { uint32 table_type = 1; repeated Path paths = 3; }
message DeletePathRequest { uint32 table_type = 1; Family family = 3; Path path = 4; }
message ListPathRequest {
  uint32 table_type = 1;                                        // GLOBAL 0, ADJ_IN 2
  string name = 2; Family family = 3; repeated TableLookupPrefix prefixes = 4;
}
message TableLookupPrefix { string prefix = 1; uint32 type = 2; }  // EXACT 0
message ListPathResponse { Destination destination = 1; }
message Destination { repeated Path paths = 2; }
message Path {
  Any nlri = 1; repeated Any pattrs = 2; Timestamp age = 3; bool best = 4; bool is_withdraw = 5; Family family = 9;
  uint32 source_asn = 10; string source_id = 11; bool stale = 13; string neighbor_ip = 15; bool is_nexthop_invalid = 17;
}
message IPAddressPrefix { uint32 prefix_len = 1; string prefix = 2; }
message OriginAttribute { uint32 origin = 1; }
message AsPathAttribute { repeated AsSegment segments = 1; }
message AsSegment { uint32 type = 1; repeated uint32 numbers = 2; }
message NextHopAttribute { string next_hop = 1; }
message MultiExitDiscAttribute { uint32 med = 1; }
message LocalPrefAttribute { uint32 local_pref = 1; }
message CommunitiesAttribute { repeated uint32 communities = 1; }
message OriginatorIdAttribute { string id = 1; }
message ClusterListAttribute { repeated string ids = 1; }
message MpReachNLRIAttribute { Family family = 1; repeated string next_hops = 2; repeated Any nlris = 3; }

message WatchEventRequest { WatchPeer peer = 1; WatchTable table = 2; uint32 batch_size = 3; }  // batch_size: 3.37
message WatchPeer {}
message WatchTable { repeated WatchFilter filters = 1; }
message WatchFilter { uint32 type = 1; bool init = 2; }         // BEST 0, ADJIN 1, POST_POLICY 2; EOR 3 in 3.37
message WatchEventResponse { PeerEvent peer = 2; TableEvent table = 3; }
message PeerEvent { uint32 type = 1; Peer peer = 2; }           // INIT 1, END_OF_INIT 2, STATE 3
message TableEvent { repeated Path paths = 2; }

message DefinedSet { uint32 defined_type = 1; string name = 2; repeated string list = 3; repeated Prefix prefixes = 4; }  // PREFIX 0, NEIGHBOR 1
message Prefix { string ip_prefix = 1; uint32 mask_length_min = 2; uint32 mask_length_max = 3; }
message AddDefinedSetRequest { DefinedSet defined_set = 1; }
message DeleteDefinedSetRequest { DefinedSet defined_set = 1; bool all = 2; }
message ListDefinedSetRequest { uint32 defined_type = 1; string name = 2; }
message ListDefinedSetResponse { DefinedSet defined_set = 1; }
message MatchSet { uint32 type = 1; string name = 2; }          // ANY 0
message Conditions { MatchSet prefix_set = 1; MatchSet neighbor_set = 2; uint32 route_type = 8; }  // LOCAL 3
message Actions { uint32 route_action = 1; MedAction med = 3; }  // ACCEPT 1, REJECT 2
message MedAction { uint32 type = 1; uint32 value = 2; }         // MOD 0: added; REPLACE 1
message Statement { string name = 1; Conditions conditions = 2; Actions actions = 3; }
message Policy { string name = 1; repeated Statement statements = 2; }
message AddPolicyRequest { Policy policy = 1; bool refer_existing_statements = 2; }
message DeletePolicyRequest { Policy policy = 1; bool preserve_statements = 2; bool all = 3; }
message ListPolicyRequest { string name = 1; }
message ListPolicyResponse { Policy policy = 1; }
message DeleteStatementRequest { Statement statement = 1; bool all = 2; }
message ListStatementRequest { string name = 1; }
message ListStatementResponse { Statement statement = 1; }
message PolicyAssignment { string name = 1; uint32 direction = 2; repeated Policy policies = 4; uint32 default_action = 5; }  // IMPORT 1, EXPORT 2
message SetPolicyAssignmentRequest { PolicyAssignment assignment = 1; }
message ListPolicyAssignmentRequest { string name = 1; uint32 direction = 2; }
message ListPolicyAssignmentResponse { PolicyAssignment assignment = 1; }
`
