variable "prefix" {
  description = "What every resource's name starts with; two deployments in one account need two."
  type        = string
  default     = "moola"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,18}[a-z0-9]$", var.prefix))
    error_message = "prefix must be 3 to 20 of lowercase letters, digits and hyphens, starting with a letter and not ending with a hyphen."
  }
}

variable "region" {
  description = "The AWS region."
  type        = string
  default     = "us-east-1"

  validation {
    condition     = can(regex("^[a-z]{2}(-[a-z]+)+-[0-9]$", var.region))
    error_message = "region must be the name of a region, such as us-east-1."
  }
}

variable "tags" {
  description = "Tags of every resource, besides project and managed_by."
  type        = map(string)
  default     = {}
}

variable "endpoint_url" {
  description = "URL of an emulator, such as http://127.0.0.1:4566; null for AWS."
  type        = string
  default     = null

  validation {
    condition     = var.endpoint_url == null || can(regex("^https?://", var.endpoint_url))
    error_message = "endpoint_url must start with http:// or https://."
  }
}

variable "protect_data" {
  description = "Whether terraform destroy is refused, before anything goes. The table has deletion protection besides, and buckets and images refuse to go while they hold something. Apply false first to destroy everything."
  type        = bool
  default     = true
}

variable "artifacts_dir" {
  description = "Folder of <function>/bootstrap.zip, as cargo lambda build --output-format zip writes them."
  type        = string
  default     = "../target/lambda"
}

variable "architecture" {
  description = "Processor of the functions; the artifacts must be built for it."
  type        = string
  default     = "arm64"

  validation {
    condition     = contains(["arm64", "x86_64"], var.architecture)
    error_message = "architecture must be arm64 or x86_64."
  }
}

variable "settings" {
  description = "Settings of the platform in TOML (docs/configuration.md); empty for the defaults. Every function gets them."
  type        = string
  default     = ""

  validation {
    condition     = length(var.settings) <= 2048
    error_message = "settings must be at most 2048 characters: a function's environment holds 4 kB in all."
  }
}

variable "trusted_keys" {
  description = "Public keys (PEM, ECDSA P-256) of retired signing keys, whose models still count as signed; at most 5."
  type        = list(string)
  default     = []

  # What every public key of P-256 starts with in DER, as base64.
  validation {
    condition = alltrue([
      for key in var.trusted_keys :
      can(regex("^-----BEGIN PUBLIC KEY-----\\s+MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcD[A-Za-z0-9+/=\\s]+\\s-----END PUBLIC KEY-----$", trimspace(key)))
    ])
    error_message = "trusted_keys must be public keys of ECDSA P-256 in PEM (BEGIN PUBLIC KEY), one per element."
  }

  validation {
    condition     = length(var.trusted_keys) <= 5
    error_message = "trusted_keys must be at most 5: a function's environment holds 4 kB in all."
  }
}

variable "log_level" {
  description = "What the functions and the trainer log (MOOLA_LOG), such as info or moola_core=debug,info."
  type        = string
  default     = "info"
}

variable "function_overrides" {
  description = "Memory (MB), timeout (seconds) and reserved concurrency (-1 for none) of functions by name, where the defaults of functions.tf do not fit."
  type = map(object({
    memory_mb            = optional(number)
    timeout_secs         = optional(number)
    reserved_concurrency = optional(number)
  }))
  default = {}

  validation {
    condition     = alltrue([for name in keys(var.function_overrides) : contains(["predict", "predict_native", "registry", "training", "compile", "drift", "react"], name)])
    error_message = "function_overrides takes predict, predict_native, registry, training, compile, drift and react."
  }
}

variable "retention_days" {
  description = "How long each class of data is kept, in days."
  type = object({
    market_data = optional(number, 2557)
    predictions = optional(number, 1096)
    logs        = optional(number, 90)
    audit       = optional(number, 3653)
    events      = optional(number, 90)
    noncurrent  = optional(number, 90)
  })
  default = {}

  validation {
    condition     = alltrue([for days in values(var.retention_days) : days >= 1 && floor(days) == days])
    error_message = "retention_days must be whole numbers from 1."
  }

  validation {
    condition     = contains([1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653], var.retention_days.logs)
    error_message = "retention_days.logs must be a retention that CloudWatch Logs has, such as 30, 90 or 365."
  }
}

variable "audit_lock_mode" {
  description = "Object lock of the audit bucket: GOVERNANCE (an administrator can lift it) or COMPLIANCE (nobody can; the bucket outlives terraform destroy)."
  type        = string
  default     = "GOVERNANCE"

  validation {
    condition     = contains(["GOVERNANCE", "COMPLIANCE"], var.audit_lock_mode)
    error_message = "audit_lock_mode must be GOVERNANCE or COMPLIANCE."
  }
}

variable "drift_schedule" {
  description = "When drift is looked for, as EventBridge Scheduler writes it, in UTC; null for never."
  type        = string
  default     = "rate(1 hour)"

  validation {
    condition     = var.drift_schedule == null || can(regex("^(rate|cron)\\(.+\\)$", var.drift_schedule))
    error_message = "drift_schedule must be like rate(1 hour) or cron(0 18 ? * MON-FRI *)."
  }
}

variable "drift_schedules" {
  description = "When drift of single models is looked for besides, by model, such as { eurusd-range = \"rate(10 minutes)\" }, in UTC."
  type        = map(string)
  default     = {}

  validation {
    condition     = alltrue([for model, expression in var.drift_schedules : can(regex("^[a-z0-9][a-z0-9._-]{0,57}$", model)) && can(regex("^(rate|cron)\\(.+\\)$", expression))])
    error_message = "drift_schedules takes names of models of at most 58 characters, with values like rate(1 hour) or cron(0 18 ? * MON-FRI *)."
  }
}

variable "retrain_schedules" {
  description = "When models are retrained on the newest version of their dataset, by model, such as { eurusd-range = \"cron(0 6 ? * SUN *)\" }, in UTC. Where there are no new bars nothing is done."
  type        = map(string)
  default     = {}

  validation {
    condition     = alltrue([for model, expression in var.retrain_schedules : can(regex("^[a-z0-9][a-z0-9._-]{0,55}$", model)) && can(regex("^(rate|cron)\\(.+\\)$", expression))])
    error_message = "retrain_schedules takes names of models of at most 56 characters, with values like rate(7 days) or cron(0 6 ? * SUN *)."
  }
}

variable "authorization" {
  description = "Who may call the API: AWS_IAM (signed requests), JWT (see jwt) or NONE (everybody; for emulators)."
  type        = string
  default     = "AWS_IAM"

  validation {
    condition     = contains(["AWS_IAM", "JWT", "NONE"], var.authorization)
    error_message = "authorization must be AWS_IAM, JWT or NONE."
  }
}

variable "jwt" {
  description = "Issuer and audiences of the tokens that are accepted, where authorization is JWT."
  type = object({
    issuer    = string
    audiences = list(string)
  })
  default = null

  validation {
    condition     = var.jwt == null || can(regex("^https://", var.jwt.issuer))
    error_message = "jwt.issuer must be an https URL."
  }
}

variable "domain" {
  description = "A domain name of one's own: with certificate_arn, or with zone_id of its public Route 53 zone, in which certificate and record are made."
  type = object({
    name            = string
    certificate_arn = optional(string)
    zone_id         = optional(string)
  })
  default = null

  validation {
    condition     = var.domain == null || try(var.domain.certificate_arn, null) != null || try(var.domain.zone_id, null) != null
    error_message = "domain needs certificate_arn or zone_id."
  }
}

variable "cors_origins" {
  description = "Origins whose pages may call the API; none by default."
  type        = list(string)
  default     = []
}

variable "throttle" {
  description = "Requests per second and burst that the API takes in all."
  type = object({
    rate  = optional(number, 500)
    burst = optional(number, 1000)
  })
  default = {}
}

variable "network" {
  description = "Subnets of one's own for training, with a way to ECR, ECS, CloudWatch Logs, S3 and KMS; null makes a small VPC."
  type = object({
    vpc_id     = string
    subnet_ids = list(string)
  })
  default = null

  validation {
    condition     = var.network == null || try(length(var.network.subnet_ids) > 0, false)
    error_message = "network.subnet_ids must name at least one subnet."
  }
}

variable "vpc_cidr" {
  description = "Addresses of the VPC that is made, a /16 to /24."
  type        = string
  default     = "10.90.0.0/20"

  validation {
    condition     = can(cidrsubnet(var.vpc_cidr, 2, 3)) && try(tonumber(split("/", var.vpc_cidr)[1]) >= 16 && tonumber(split("/", var.vpc_cidr)[1]) <= 24, false)
    error_message = "vpc_cidr must be an IPv4 range of /16 to /24."
  }
}

variable "trainer" {
  description = "The training container: tag of the images (<tag>-cpu, <tag>-gpu) in the repository that is made, instance types, most vCPUs of each compute environment (0: no such queue; with none at all, models are trained elsewhere), share of the on-demand price that Spot may cost, and what a job gets."
  type = object({
    image_tag          = optional(string, "0.1.0")
    cpu_instance_types = optional(list(string), ["c7i", "m7i", "c6i", "m6i"])
    cpu_spot           = optional(bool, true)
    cpu_max_vcpus      = optional(number, 16)
    cpu_job_vcpus      = optional(number, 4)
    cpu_job_memory_mb  = optional(number, 7168)
    gpu_instance_types = optional(list(string), ["g6.xlarge", "g5.xlarge", "g4dn.xlarge"])
    gpu_max_vcpus      = optional(number, 0)
    gpu_job_vcpus      = optional(number, 4)
    gpu_job_memory_mb  = optional(number, 14336)
    spot_bid_percent   = optional(number, 100)
    timeout_secs       = optional(number, 86400)
  })
  default = {}

  validation {
    condition     = var.trainer.cpu_max_vcpus >= var.trainer.cpu_job_vcpus || var.trainer.cpu_max_vcpus == 0
    error_message = "trainer.cpu_max_vcpus must be 0 or at least trainer.cpu_job_vcpus."
  }

  validation {
    condition     = var.trainer.gpu_max_vcpus >= var.trainer.gpu_job_vcpus || var.trainer.gpu_max_vcpus == 0
    error_message = "trainer.gpu_max_vcpus must be 0 or at least trainer.gpu_job_vcpus."
  }

  validation {
    condition     = alltrue([for type in concat(var.trainer.cpu_instance_types, var.trainer.gpu_instance_types) : !can(regex("^(a1|[a-z]+[0-9]+g)", type))])
    error_message = "trainer.cpu_instance_types and gpu_instance_types must be of x86_64, such as c7i or g6.xlarge: the images are built for it."
  }

  validation {
    condition     = var.trainer.timeout_secs >= 60
    error_message = "trainer.timeout_secs must be at least 60, which is the least that AWS Batch takes."
  }
}

variable "alert_emails" {
  description = "Who is told of drift, failed runs, failed gates, promotions and alarms; each must confirm once."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for email in var.alert_emails : can(regex("^[^@ ]+@[^@ ]+$", email))])
    error_message = "alert_emails must be e-mail addresses."
  }
}

variable "monthly_budget_usd" {
  description = "Budget of the account per month; alert_emails are told at 80 % spent and at 100 % forecast. null for none."
  type        = number
  default     = 50

  validation {
    condition     = var.monthly_budget_usd == null || try(var.monthly_budget_usd > 0, false)
    error_message = "monthly_budget_usd must be above 0, or null."
  }
}
