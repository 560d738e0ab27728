// The XDP program of one interface: which frames bypass the kernel, and nothing else.
//
// Every frame gets one verdict, and every verdict is a counter. Only what the maps name is redirected; everything else
// passes to the kernel: other addresses, other VLANs, other protocols, and whatever this program cannot parse. A
// redirect to a queue without a living socket passes too, so that a dead data plane gives the host its traffic back.
//
// The section `xdp.frags` says that packets of several buffers are welcome; `redirect_whole` is the same program for
// kernels that refuse that flag.

#include <linux/bpf.h>
#include <linux/types.h>
#include <stdbool.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define ETHERTYPE_IPV4 0x0800
#define ETHERTYPE_ARP 0x0806
#define ETHERTYPE_VLAN 0x8100
#define ETHERTYPE_IPV6 0x86dd

#define PROTOCOL_TCP 6
#define PROTOCOL_UDP 17
#define PROTOCOL_ICMPV6 58

// RFC 4861, sections 4.3 and 4.4.
#define ND_NEIGHBOUR_SOLICIT 135
#define ND_NEIGHBOUR_ADVERT 136
#define ND_OPTION_TARGET_LINK_ADDRESS 2

// IPv6 extension headers (RFC 8200, section 4; RFC 4302 for AH).
#define EXTENSION_HOP_BY_HOP 0
#define EXTENSION_ROUTING 43
#define EXTENSION_FRAGMENT 44
#define EXTENSION_AUTHENTICATION 51
#define EXTENSION_DESTINATION 60
// RFC 8200 names five kinds of which one may come twice: more is no honest packet.
#define EXTENSION_MAX 6

// Values of the owned maps; `Claim` in lib.rs.
#define CLAIM_ALL 1
#define CLAIM_TRANSPORT 2

// `Role` in lib.rs.
#define ROLE_UPLINK 0
#define ROLE_WORKLOAD 1

#define OWNED_MAX 65536
#define QUEUES_MAX 256
#define NOTICES_BYTES 65536
#define VLAN_ID_MASK 0x0fff

// `Verdict` in verdict.rs, in the same order.
enum verdict {
	REDIRECTED_ADDRESS,
	REDIRECTED_INTERCEPTED,
	REDIRECTED_ARP,
	REDIRECTED_NDP,
	PASSED_OTHER_ADDRESS,
	PASSED_OTHER_PROTOCOL,
	PASSED_OTHER_VLAN,
	PASSED_MALFORMED,
	PASSED_NO_SOCKET,
	DENIED_OUTBOUND,
	NOTICE_LOST,
	VERDICTS,
};

struct interface_config {
	__u32 role;
	// Not zero: a workload's packets to other hosts die here unless the mesh takes them.
	__u32 deny_outbound;
	// One bit an identifier; bit 0 is untagged traffic.
	__u8 vlans[512];
};

struct key_v4 {
	__u32 bits;
	__u8 address[4];
};

struct key_v6 {
	__u32 bits;
	__u8 address[16];
};

// Somebody told the link about an address that is not ours; `Notice` in notice.rs.
struct notice {
	__u8 address[16];
	__u8 mac[6];
	__u16 vlan;
	__u8 family;
	__u8 reserved[3];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct interface_config);
} config SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, OWNED_MAX);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct key_v4);
	__type(value, __u32);
} owned_v4 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, OWNED_MAX);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct key_v6);
	__type(value, __u32);
} owned_v6 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__uint(max_entries, QUEUES_MAX);
	__type(key, __u32);
	__type(value, __u32);
} sockets SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, VERDICTS);
	__type(key, __u32);
	__type(value, __u64);
} verdicts SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, NOTICES_BYTES);
} notices SEC(".maps");

struct ethernet {
	__u8 destination[6];
	__u8 source[6];
	__be16 type;
} __attribute__((packed));

struct vlan_tag {
	__be16 control;
	__be16 type;
} __attribute__((packed));

// RFC 826 for Ethernet and IPv4.
struct arp {
	__be16 hardware;
	__be16 protocol;
	__u8 hardware_bytes;
	__u8 protocol_bytes;
	__be16 operation;
	__u8 sender_mac[6];
	__u8 sender[4];
	__u8 target_mac[6];
	__u8 target[4];
} __attribute__((packed));

struct ipv4 {
	__u8 version_words;
	__u8 tos;
	__be16 total_bytes;
	__be16 id;
	__be16 fragment;
	__u8 ttl;
	__u8 protocol;
	__be16 checksum;
	__u8 source[4];
	__u8 destination[4];
} __attribute__((packed));

struct ipv6 {
	__be32 version_class_flow;
	__be16 payload_bytes;
	__u8 next;
	__u8 hops;
	__u8 source[16];
	__u8 destination[16];
} __attribute__((packed));

struct extension {
	__u8 next;
	__u8 words;
	__u8 rest[6];
} __attribute__((packed));

// Neighbour solicitation and advertisement with the first option's place.
struct neighbour_discovery {
	__u8 type;
	__u8 code;
	__be16 checksum;
	__be32 flags;
	__u8 target[16];
} __attribute__((packed));

struct link_address_option {
	__u8 type;
	__u8 units;
	__u8 mac[6];
} __attribute__((packed));

struct cursor {
	void *at;
	void *end;
	__u16 vlan;
	__u32 role;
	__u32 deny_outbound;
};

static __always_inline void count(enum verdict verdict)
{
	__u32 index = verdict;
	__u64 *counter = bpf_map_lookup_elem(&verdicts, &index);

	if (counter)
		*counter += 1;
}

static __always_inline enum verdict judge_arp(struct cursor *cursor);
static __always_inline enum verdict judge_ipv4(struct cursor *cursor);
static __always_inline enum verdict judge_ipv6(struct cursor *cursor);

static __always_inline enum verdict judge(struct xdp_md *frame)
{
	struct cursor cursor = {
		.at = (void *)(long)frame->data,
		.end = (void *)(long)frame->data_end,
	};
	struct interface_config *interface;
	struct ethernet *ethernet = cursor.at;
	__u32 zero = 0;
	__u32 vlan;
	__be16 type;

	if ((void *)(ethernet + 1) > cursor.end)
		return PASSED_MALFORMED;
	cursor.at = ethernet + 1;
	type = ethernet->type;
	if (type == bpf_htons(ETHERTYPE_VLAN)) {
		struct vlan_tag *tag = cursor.at;

		if ((void *)(tag + 1) > cursor.end)
			return PASSED_MALFORMED;
		cursor.vlan = bpf_ntohs(tag->control) & VLAN_ID_MASK;
		cursor.at = tag + 1;
		type = tag->type;
	}

	interface = bpf_map_lookup_elem(&config, &zero);
	if (!interface)
		return PASSED_OTHER_VLAN;
	// Linux 6.1 forgets a number's bounds when its bytes are swapped. The compiler does not, and would take the mask away
	// that tells the verifier.
	vlan = cursor.vlan;
	asm volatile("" : "+r"(vlan));
	if (!(interface->vlans[(vlan >> 3) & 511] & (1 << (vlan & 7))))
		return PASSED_OTHER_VLAN;
	cursor.role = interface->role;
	cursor.deny_outbound = interface->deny_outbound;

	if (type == bpf_htons(ETHERTYPE_IPV4))
		return judge_ipv4(&cursor);
	if (type == bpf_htons(ETHERTYPE_IPV6))
		return judge_ipv6(&cursor);
	if (type == bpf_htons(ETHERTYPE_ARP))
		return judge_arp(&cursor);
	return PASSED_OTHER_PROTOCOL;
}

static __always_inline __u32 claim_v4(const __u8 *address)
{
	struct key_v4 key = { .bits = 32 };
	__u32 *claim;

	__builtin_memcpy(key.address, address, 4);
	claim = bpf_map_lookup_elem(&owned_v4, &key);
	return claim ? *claim : 0;
}

static __always_inline __u32 claim_v6(const __u8 *address)
{
	struct key_v6 key = { .bits = 128 };
	__u32 *claim;

	__builtin_memcpy(key.address, address, 16);
	claim = bpf_map_lookup_elem(&owned_v6, &key);
	return claim ? *claim : 0;
}

static __always_inline void notify(struct notice *notice)
{
	if (bpf_ringbuf_output(&notices, notice, sizeof(*notice), 0))
		count(NOTICE_LOST);
}

// Requests and replies for an owned address are ours. An announcement (RFC 5227, section 3: sender and target are the
// same) of any other address is the kernel's, and ours to know of: XDP cannot give a frame to both, so the fact goes
// out as a notice.
static __always_inline enum verdict judge_arp(struct cursor *cursor)
{
	struct arp *arp = cursor->at;
	struct notice notice = { .family = 4 };

	if ((void *)(arp + 1) > cursor->end)
		return PASSED_MALFORMED;
	if (arp->protocol != bpf_htons(ETHERTYPE_IPV4) || arp->hardware_bytes != 6 || arp->protocol_bytes != 4)
		return PASSED_OTHER_PROTOCOL;
	if (claim_v4(arp->target) & CLAIM_ALL)
		return REDIRECTED_ARP;
	if (__builtin_memcmp(arp->sender, arp->target, 4) == 0) {
		__builtin_memcpy(notice.address, arp->sender, 4);
		__builtin_memcpy(notice.mac, arp->sender_mac, 6);
		notice.vlan = cursor->vlan;
		notify(&notice);
	}
	return PASSED_OTHER_ADDRESS;
}

static __always_inline enum verdict judge_claim(__u32 claim, __u32 role, __u8 protocol)
{
	if (claim & CLAIM_ALL)
		return REDIRECTED_ADDRESS;
	if (!(claim & CLAIM_TRANSPORT) || role != ROLE_WORKLOAD)
		return PASSED_OTHER_ADDRESS;
	if (protocol == PROTOCOL_TCP || protocol == PROTOCOL_UDP)
		return REDIRECTED_INTERCEPTED;
	return PASSED_OTHER_PROTOCOL;
}

// What the kernel would forward for a workload. Groups and the link's own addresses are never forwarded (RFC 3927,
// section 2.7; RFC 4291, section 2.5.6) and pass: neighbour discovery and DHCP go on.
static __always_inline enum verdict judge_outbound(enum verdict verdict, struct cursor *cursor, bool on_link)
{
	bool passes = verdict == PASSED_OTHER_ADDRESS || verdict == PASSED_OTHER_PROTOCOL;

	return passes && cursor->role == ROLE_WORKLOAD && cursor->deny_outbound && !on_link ? DENIED_OUTBOUND : verdict;
}

static __always_inline bool on_link_v4(const __u8 *address)
{
	return address[0] >= 224 || (address[0] == 169 && address[1] == 254);
}

static __always_inline bool on_link_v6(const __u8 *address)
{
	return address[0] == 0xff || (address[0] == 0xfe && (address[1] & 0xc0) == 0x80);
}

// Address and protocol stand in the fixed part and in every fragment: options and fragments need no more.
static __always_inline enum verdict judge_ipv4(struct cursor *cursor)
{
	struct ipv4 *ip = cursor->at;
	enum verdict verdict;

	if ((void *)(ip + 1) > cursor->end || ip->version_words < 0x45 || ip->version_words > 0x4f)
		return PASSED_MALFORMED;
	verdict = judge_claim(claim_v4(ip->destination), cursor->role, ip->protocol);

	return judge_outbound(verdict, cursor, on_link_v4(ip->destination));
}

// Solicitations ask by multicast or unicast; what counts is the target (RFC 4861, section 7.2). An advertisement to
// many is the kernel's and a notice for us, as with ARP.
static __always_inline enum verdict judge_discovery(struct cursor *cursor, bool to_many)
{
	struct neighbour_discovery *discovery = cursor->at;
	struct link_address_option *option;
	struct notice notice = { .family = 6 };

	if ((void *)(discovery + 1) > cursor->end)
		return PASSED_OTHER_ADDRESS;
	if (discovery->type == ND_NEIGHBOUR_SOLICIT)
		return claim_v6(discovery->target) & CLAIM_ALL ? REDIRECTED_NDP : PASSED_OTHER_ADDRESS;
	if (discovery->type != ND_NEIGHBOUR_ADVERT || !to_many)
		return PASSED_OTHER_ADDRESS;
	option = (void *)(discovery + 1);
	if ((void *)(option + 1) > cursor->end)
		return PASSED_OTHER_ADDRESS;
	if (option->type == ND_OPTION_TARGET_LINK_ADDRESS && option->units == 1) {
		__builtin_memcpy(notice.address, discovery->target, 16);
		__builtin_memcpy(notice.mac, option->mac, 6);
		notice.vlan = cursor->vlan;
		notify(&notice);
	}
	return PASSED_OTHER_ADDRESS;
}

// The protocol behind the extension headers; what is no extension header ends the walk.
static __always_inline bool skip_extensions(struct cursor *cursor, __u8 *next)
{
	for (int i = 0; i < EXTENSION_MAX; i++) {
		struct extension *extension = cursor->at;
		__u32 bytes;

		switch (*next) {
		case EXTENSION_HOP_BY_HOP:
		case EXTENSION_ROUTING:
		case EXTENSION_FRAGMENT:
		case EXTENSION_AUTHENTICATION:
		case EXTENSION_DESTINATION:
			break;
		default:
			return true;
		}
		if ((void *)(extension + 1) > cursor->end)
			return false;
		if (*next == EXTENSION_FRAGMENT)
			bytes = 8;
		else if (*next == EXTENSION_AUTHENTICATION)
			bytes = (extension->words + 2) * 4;
		else
			bytes = (extension->words + 1) * 8;
		*next = extension->next;
		cursor->at += bytes;
		if (cursor->at > cursor->end)
			return false;
	}
	return false;
}

static __always_inline enum verdict judge_ipv6(struct cursor *cursor)
{
	struct ipv6 *ip = cursor->at;
	enum verdict verdict;
	__u32 claim;
	__u8 next;
	bool walked;

	if ((void *)(ip + 1) > cursor->end || (*(__u8 *)ip & 0xf0) != 0x60)
		return PASSED_MALFORMED;
	claim = claim_v6(ip->destination);
	if (claim & CLAIM_ALL)
		return REDIRECTED_ADDRESS;
	next = ip->next;
	cursor->at = ip + 1;
	walked = skip_extensions(cursor, &next);
	if (!walked)
		return PASSED_MALFORMED;
	verdict = next == PROTOCOL_ICMPV6 ? judge_discovery(cursor, ip->destination[0] == 0xff)
					  : judge_claim(claim, cursor->role, next);
	return judge_outbound(verdict, cursor, on_link_v6(ip->destination));
}

static __always_inline int act(struct xdp_md *frame)
{
	enum verdict verdict = judge(frame);
	int action = XDP_PASS;

	if (verdict <= REDIRECTED_NDP) {
		action = bpf_redirect_map(&sockets, frame->rx_queue_index, XDP_PASS);
		if (action != XDP_REDIRECT)
			verdict = PASSED_NO_SOCKET;
	} else if (verdict == DENIED_OUTBOUND) {
		action = XDP_DROP;
	}
	count(verdict);
	return action;
}

SEC("xdp.frags")
int redirect(struct xdp_md *frame)
{
	return act(frame);
}

SEC("xdp")
int redirect_whole(struct xdp_md *frame)
{
	return act(frame);
}

char _license[] SEC("license") = "GPL";
