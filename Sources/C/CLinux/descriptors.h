// Descriptors over a Unix socket: their control messages are made of macros.
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

// Sends `count` bytes, with one descriptor when `descriptor` is not negative. Never raises SIGPIPE. The result is that of sendmsg.
static inline ssize_t chunkmesh_send(int socket, const void *bytes, size_t count, int descriptor, int flags) {
    struct iovec piece = {.iov_base = (void *)bytes, .iov_len = count};
    union {
        struct cmsghdr header;
        char room[CMSG_SPACE(sizeof(int))];
    } control;
    struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1};
    if (descriptor >= 0) {
        memset(&control, 0, sizeof control);
        message.msg_control = control.room;
        message.msg_controllen = sizeof control.room;
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(header), &descriptor, sizeof(int));
    }
    return sendmsg(socket, &message, flags | MSG_NOSIGNAL);
}

// The most descriptors that one call of chunkmesh_receive returns; the kernel closes further ones and says so in `truncated`.
enum { CHUNKMESH_RECEIVED_DESCRIPTORS = 8 };

// Receives up to `count` bytes, and the descriptors that came with them (close-on-exec). The result is that of recvmsg.
static inline ssize_t chunkmesh_receive(int socket, void *bytes, size_t count, int *descriptors, int *found, int *truncated, int flags) {
    struct iovec piece = {.iov_base = bytes, .iov_len = count};
    union {
        struct cmsghdr header;
        char room[CMSG_SPACE(CHUNKMESH_RECEIVED_DESCRIPTORS * sizeof(int))];
    } control;
    struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1, .msg_control = control.room, .msg_controllen = sizeof control.room};
    *found = 0;
    *truncated = 0;
    ssize_t received = recvmsg(socket, &message, flags | MSG_CMSG_CLOEXEC);
    if (received < 0) return received;
    *truncated = (message.msg_flags & MSG_CTRUNC) != 0;
    for (struct cmsghdr *header = CMSG_FIRSTHDR(&message); header; header = CMSG_NXTHDR(&message, header)) {
        if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
        size_t bytes_of = header->cmsg_len - CMSG_LEN(0);
        for (size_t i = 0; i + sizeof(int) <= bytes_of && *found < CHUNKMESH_RECEIVED_DESCRIPTORS; i += sizeof(int))
            memcpy(&descriptors[(*found)++], CMSG_DATA(header) + i, sizeof(int));
    }
    return received;
}
