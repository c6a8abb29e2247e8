/* The header in the C of 1989, with every initialiser and macro. */
#include <sendfd.h>

static sendfd_options options = SENDFD_OPTIONS_INIT;
static sendfd_receiver_options opening = SENDFD_RECEIVER_OPTIONS_INIT;
static sendfd_message message = SENDFD_MESSAGE_INIT;
static sendfd_sender sender = SENDFD_SENDER_INIT;
static sendfd_report report = SENDFD_REPORT_INIT;
static sendfd_kind kind = SENDFD_KIND_INIT;

#if SENDFD_VERSION_MAJOR * 10000 + SENDFD_VERSION_MINOR * 100 + SENDFD_VERSION_PATCH < 100
#error "the version"
#endif

int main(void)
{
    return options.size != sizeof options || opening.size != sizeof opening ||
           message.size != sizeof message || sender.size != sizeof sender ||
           report.size != sizeof report || kind.size != sizeof kind ||
           options.flags != 0 || report.paths[2].reason[0] != '\0' ||
           sizeof SENDFD_VERSION < sizeof "0.0.0";
}
